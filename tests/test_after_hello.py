"""Frames that come before the hello of a connection: they wait for it, within bounds."""

import asyncio

import pytest

from switchboard_operator import frames
from switchboard_operator.broker.memory_mailbox import MemoryMailbox
from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery
from tests.switchboards import SESSION
from tests.test_connections import RULES, FakeSocket


class SlowMailbox(MemoryMailbox):
    """Answers nothing, as where Redis is away."""

    def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
        return asyncio.get_running_loop().create_future()


def greeting(socket: FakeSocket, limits: Limits) -> Connection:
    """Return a connection of SESSION that will say hello when it is told to."""
    connection = Connection(socket, frames.CLASSIC, SlowMailbox(RULES), limits)
    connection.join(SESSION, after=None, greet=lambda _page, _lost: b"hello")
    return connection


async def test_frames_that_come_before_the_hello_are_sent_after_it_in_order() -> None:
    socket = FakeSocket()
    connection = greeting(socket, Limits(outbox_frames=3))

    taken = [connection.offer(b"1"), connection.deliver(Delivery(SESSION, b"2", None))]
    taken.append(connection.offer(b"3"))
    connection.greet_without_page()
    connection.offer(b"4")

    assert taken == [True] * 3
    assert socket.sent == [("text", each) for each in (b"hello", b"1", b"2", b"3", b"4")]


async def test_a_client_for_which_far_too_much_comes_before_its_hello_is_closed_with_4101() -> None:
    socket = FakeSocket()
    connection = greeting(socket, Limits(outbox_frames=2))

    taken = [connection.offer(b"%d" % number) for number in range(10)]

    assert taken == sorted(taken, reverse=True)
    assert sum(taken) == 2 * 2
    assert socket.sent == [("close", 4101)]


@pytest.mark.parametrize("count", [3, 5])
async def test_nothing_is_sent_before_the_hello_however_much_comes(count: int) -> None:
    socket = FakeSocket()
    connection = greeting(socket, Limits(outbox_frames=2))

    for number in range(count):
        connection.offer(b"%d" % number)
    connection.greet_without_page()

    assert socket.sent[0] in {("text", b"hello"), ("close", 4101)}


async def test_frames_that_wait_for_the_hello_have_no_more_bytes_than_others_may() -> None:
    connection = greeting(FakeSocket(), Limits(outbox_bytes=1000))

    taken = [connection.deliver(Delivery(SESSION, b"x" * 500, None)) for _ in range(50)]

    assert sum(taken) * 500 == 1000
    assert connection.close_code == 4101
