"""A session's queue: order, bounds, and who goes on first when there is room."""

import asyncio
import itertools

from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.session_queue import SessionQueue

numbers = itertools.count()


def message(body: bytes = b"") -> UserMessage:
    return UserMessage("a", str(next(numbers)), body, 0.0)


def test_it_keeps_the_order_and_takes_what_was_read_even_when_full() -> None:
    queue = SessionQueue(Limits(uplink_queue=1, parked_frames=1))

    for number in range(5):
        queue.put(message(b"%d" % number), None)

    bodies = []
    while queue:
        bodies.append(queue.head.message.body)
        queue.remove(queue.head)
    assert bodies == [b"0", b"1", b"2", b"3", b"4"]


def test_it_is_full_by_number() -> None:
    queue = SessionQueue(Limits(uplink_queue=2, parked_frames=2))

    fullness = []
    for _ in range(5):
        fullness.append(queue.full)
        queue.put(message(), None)

    assert fullness == [False, False, False, False, True]


def test_it_is_full_by_bytes_but_never_below_the_number_that_always_fits() -> None:
    queue = SessionQueue(Limits(uplink_queue=2, parked_frames=100, parked_bytes=10))

    fullness = []
    for _ in range(4):
        fullness.append(queue.full)
        queue.put(message(b"x" * 100), None)

    assert fullness == [False, False, False, True]


async def test_the_oldest_of_those_who_wait_goes_on_first() -> None:
    queue = SessionQueue(Limits(uplink_queue=0, parked_frames=2))
    queue.put(message(), None)
    queue.put(message(), None)
    went_on: list[float] = []

    def wait(since: float) -> None:
        def go_on() -> None:
            if queue.full:
                wait(since)
                return
            went_on.append(since)
            queue.put(message(), None)

        queue.when_room(since, go_on)

    for since in (2.0, 1.0, 3.0):
        wait(since)
    for _ in range(3):
        queue.remove(queue.head)
        await asyncio.sleep(0)

    assert went_on == [1.0, 2.0, 3.0]
