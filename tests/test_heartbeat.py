"""How long a client may be silent, and what does not count against it."""

import asyncio

from switchboard_operator.limits import Limits
from switchboard_operator.web.heartbeat import Heartbeat
from tests.switchboards import eventually
from tests.test_connections import FakeSocket, connection_on, take_all, take_nothing


async def test_a_silent_client_is_pinged_and_then_cut_off() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(heartbeat=0.05, pong=0.05))

    Heartbeat(connection, Limits(heartbeat=0.05, pong=0.05))
    await eventually(lambda: socket.aborted)

    assert socket.sent[0] == ("ping", b"")


async def test_a_ping_that_left_late_has_all_its_time_from_then_on() -> None:
    limits = Limits(heartbeat=0.02, pong=0.3, stall=60)
    socket = FakeSocket()
    connection = connection_on(socket, limits)
    take_nothing(socket, connection)
    heartbeat = Heartbeat(connection, limits)
    loop = asyncio.get_running_loop()
    await eventually(lambda: connection.ping_waits)
    await asyncio.sleep(0.25)  # most of what a ping is given

    take_all(socket, connection)
    await eventually(lambda: connection.receipts.pinged_at > 0)
    await eventually(lambda: socket.aborted)

    asked_at = connection.receipts.asked_at
    assert asked_at is not None
    assert loop.time() - asked_at >= 0.3
    heartbeat.stop()


async def test_a_client_that_is_not_read_is_not_cut_off_but_pinged_again() -> None:
    limits = Limits(heartbeat=0.02, pong=0.05)
    socket = FakeSocket()
    connection = connection_on(socket, limits)
    heartbeat = Heartbeat(connection, limits)

    heartbeat.suspend()
    await eventually(lambda: len(socket.sent) >= 3)
    assert not socket.aborted
    heartbeat.resume()
    heartbeat.heard()  # it lay unread all the time
    heartbeat.stop()

    assert not socket.aborted
    connection.abort()
