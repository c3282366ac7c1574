"""How long a client may be silent, and what does not count against it."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from switchboard_operator import frames
from switchboard_operator.broker.memory_mailbox import MemoryMailbox
from switchboard_operator.connection import Connection
from switchboard_operator.frames import Wire
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Delivery
from switchboard_operator.server_frames_v1 import V1
from switchboard_operator.web.heartbeat import TICK, Heartbeat
from tests.switchboards import SESSION, eventually
from tests.test_connections import (
    RULES,
    FakeSocket,
    connection_on,
    pings,
    take_all,
    take_nothing,
    texts,
)

pytestmark = pytest.mark.slow  # each waits to see what happens, or does not


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
    assert loop.time() - asked_at >= 0.3 - TICK
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


class CountingHeartbeat(Heartbeat):
    """Counts how often it looks what is due."""

    __slots__ = ("looks",)

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self.looks = 0
        super().__init__(connection, limits)

    def _look(self) -> None:
        self.looks += 1
        super()._look()


def on_wire(wire: Wire, socket: FakeSocket, limits: Limits) -> Connection:
    """Return a connection that has joined no session."""
    return Connection(socket, wire, MemoryMailbox(RULES), limits)


async def live_connection(
    socket: FakeSocket, mailbox: MemoryMailbox, limits: Limits
) -> tuple[Connection, Heartbeat]:
    """Return a connection that has caught up with *mailbox*, and its heartbeat."""
    connection = connection_on(socket, limits, mailbox)
    heartbeat = Heartbeat(connection, limits)
    post(connection, mailbox)
    await eventually(lambda: bool(texts(socket)))
    return connection, heartbeat


def post(connection: Connection, mailbox: MemoryMailbox) -> None:
    connection.deliver(Delivery(SESSION, b"{}", mailbox.add(SESSION, b"{}")))
    connection.flush()


async def test_it_wakes_once_for_what_is_due() -> None:
    limits = Limits(heartbeat=0.0103, pong=60)  # no whole number of milliseconds
    watched = [
        (socket, CountingHeartbeat(connection_on(socket, limits), limits))
        for socket in (FakeSocket() for _ in range(20))
    ]

    await eventually(lambda: all(len(socket.sent) >= 5 for socket, _ in watched))

    for socket, heartbeat in watched:
        heartbeat.stop()
        assert heartbeat.looks == len(socket.sent)


async def test_it_never_has_a_second_timer() -> None:
    limits = Limits(heartbeat=1.5, receipt_delay=1.2)
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection = connection_on(socket, limits, mailbox)
    heartbeat = CountingHeartbeat(connection, limits)  # a timer for the silence …

    post(connection, mailbox)
    await eventually(lambda: bool(texts(socket)))  # … gives way to one for a receipt
    connection.close(1000)
    heartbeat.stop()
    await asyncio.sleep(1.6)  # longer than either

    assert heartbeat.looks == 0


async def again_and_again(seconds: float) -> AsyncIterator[None]:
    """Yield every now and then for so long: a machine that stands still for a second is borne."""
    over = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < over:
        await asyncio.sleep(0.02)
        yield


async def test_a_client_that_talks_is_not_pinged() -> None:
    limits = Limits(heartbeat=1.5)
    socket = FakeSocket()
    heartbeat = Heartbeat(connection_on(socket, limits), limits)

    async for _ in again_and_again(seconds=2 * limits.heartbeat):
        heartbeat.heard()

    heartbeat.stop()
    assert socket.sent == []


async def test_a_v1_client_sees_a_beat_when_it_has_got_nothing_else_for_a_while() -> None:
    limits = Limits(heartbeat=0.05, pong=60)
    socket = FakeSocket()
    connection = on_wire(V1, socket, limits)
    connection.join(SESSION, after=None)
    heartbeat = Heartbeat(connection, limits)

    await eventually(lambda: len(texts(socket)) >= 3)

    heartbeat.stop()
    assert set(texts(socket)) == {V1.heartbeat}


async def test_a_beat_waits_while_other_frames_come() -> None:
    limits = Limits(heartbeat=1.5, pong=60)
    socket = FakeSocket()
    connection = on_wire(V1, socket, limits)
    connection.join(SESSION, after=None)
    heartbeat = Heartbeat(connection, limits)

    async for _ in again_and_again(seconds=2 * limits.heartbeat):
        connection.offer(b"{}")

    heartbeat.stop()
    assert set(texts(socket)) == {b"{}"}


async def test_a_client_without_a_session_sees_no_beat() -> None:
    limits = Limits(heartbeat=0.02, pong=60)
    socket = FakeSocket()
    heartbeat = Heartbeat(on_wire(V1, socket, limits), limits)

    await eventually(lambda: len(pings(socket)) >= 3)

    heartbeat.stop()
    assert texts(socket) == []


async def test_a_classic_client_sees_no_beat() -> None:
    limits = Limits(heartbeat=0.02, pong=60)
    socket = FakeSocket()
    connection = on_wire(frames.CLASSIC, socket, limits)
    connection.join(SESSION, after=None)
    heartbeat = Heartbeat(connection, limits)

    await eventually(lambda: len(pings(socket)) >= 3)

    heartbeat.stop()
    assert texts(socket) == []


async def test_receipts_are_asked_for_no_more_often_than_allowed() -> None:
    limits = Limits(heartbeat=60, pong=60, receipt_delay=0.01, receipt_every=0.2)
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection, heartbeat = await live_connection(socket, mailbox, limits)
    loop = asyncio.get_running_loop()
    asked_at: list[float] = []

    for _ in range(80):
        post(connection, mailbox)
        await asyncio.sleep(0.01)
        if len(pings(socket)) > len(asked_at):
            asked_at.append(connection.receipts.pinged_at)

    heartbeat.stop()
    assert loop.time() - asked_at[-1] < 0.3
    assert len(asked_at) == len(pings(socket)) >= 3
    assert all(next_at - at >= 0.2 - TICK for at, next_at in itertools.pairwise(asked_at))


async def test_nobody_is_asked_for_a_receipt_that_has_come() -> None:
    limits = Limits(heartbeat=60, receipt_delay=1, receipt_every=0.01)
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection, heartbeat = await live_connection(socket, mailbox, limits)

    connection.ponged(str(connection.receipts.written).encode())
    await asyncio.sleep(1.5)  # more than the time after which it would be asked

    heartbeat.stop()
    assert connection.receipts.complete
    assert pings(socket) == []


async def test_a_pong_ends_the_time_for_it() -> None:
    limits = Limits(heartbeat=1.2, pong=1)
    socket = FakeSocket()
    connection = connection_on(socket, limits)
    heartbeat = Heartbeat(connection, limits)

    for count in range(1, 4):
        await eventually(lambda count=count: len(pings(socket)) >= count)  # type: ignore[misc] # of the loop's variable
        connection.ponged(pings(socket)[-1])

    heartbeat.stop()
    assert not socket.aborted
