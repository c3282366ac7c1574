"""How a socket ends: both Close frames, what ours waits for, and who is cut off."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from switchboard_operator.ending import Ending
from switchboard_operator.limits import Limits
from tests.switchboards import eventually
from tests.test_connections import FakeSocket

SOON = 0.02  # seconds


class Waker:
    """Is woken."""

    def __init__(self) -> None:
        self.times = 0

    def wake(self) -> None:
        self.times += 1

    @property
    def woken(self) -> bool:
        return self.times > 0


def ending_of(
    socket: FakeSocket, limits: Limits | None = None, wake: Callable[[], None] | None = None
) -> Ending:
    """Return the ending of *socket*, with limits that no test lives to see if it sets none."""
    return Ending(socket, limits or Limits(), wake or Waker().wake)


def being_stored() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def outlive(seconds: float) -> None:
    """Wait until what is due in *seconds* must have happened: another one's time is twice that."""
    socket = FakeSocket()
    ending_of(socket, Limits(close=2 * seconds)).begin(1000)
    await eventually(lambda: socket.aborted)


async def test_while_nobody_ends_it_all_may_be_said() -> None:
    ending = ending_of(FakeSocket())

    assert (ending.code, ending.silent) == (0, False)


async def test_ours_is_sent_and_the_link_let_go_when_theirs_comes() -> None:
    socket = FakeSocket()
    ending = ending_of(socket)

    ending.begin(1012)
    assert (ending.code, ending.silent, socket.sent) == (1012, False, [])
    assert not ending.finish(complete=True)
    assert (ending.silent, socket.sent, socket.released) == (True, [("close", 1012)], False)
    assert ending.closed_by_peer(1000)

    assert ending.code == 1012
    assert socket.released


async def test_theirs_is_answered_with_its_code_and_the_link_let_go() -> None:
    socket = FakeSocket()
    ending = ending_of(socket)

    ending.closed_by_peer(4000)
    assert (ending.code, ending.silent, socket.released) == (4000, False, False)
    ending.finish(complete=False)

    assert socket.sent == [("close", 4000)]
    assert ending.silent
    assert socket.released


async def test_a_receipt_is_asked_for_once_and_waited_for() -> None:
    socket = FakeSocket()
    ending = ending_of(socket)
    ending.begin(1012, receipt=True)

    asked = [ending.finish(complete=False) for _ in range(2)]
    assert (asked, socket.sent) == ([True, False], [])
    ending.finish(complete=True)

    assert socket.sent == [("close", 1012)]


@pytest.mark.parametrize(("receipt", "complete"), [(True, True), (False, False), (False, True)])
async def test_no_receipt_is_asked_for_if_none_is_due(receipt: bool, complete: bool) -> None:
    socket = FakeSocket()
    ending = ending_of(socket)
    ending.begin(1012, receipt=receipt)

    asked = ending.finish(complete=complete)

    assert not asked
    assert socket.sent == [("close", 1012)]


async def test_a_receipt_that_does_not_come_is_not_waited_for_long() -> None:
    socket, waker = FakeSocket(), Waker()
    ending = ending_of(socket, Limits(last_receipt=SOON), waker.wake)
    ending.begin(1012, receipt=True)
    ending.finish(complete=False)

    await eventually(lambda: waker.woken)
    ending.finish(complete=False)

    assert socket.sent == [("close", 1012)]


async def test_nor_is_it_once_the_peer_has_said_its_last() -> None:
    socket = FakeSocket()
    ending = ending_of(socket)
    ending.begin(1012, receipt=True)
    ending.finish(complete=False)

    ending.closed_by_peer(1000)
    ending.finish(complete=False)

    assert socket.sent == [("close", 1012)]
    assert socket.released


async def test_ours_waits_until_what_is_proven_is_stored() -> None:
    socket, waker = FakeSocket(), Waker()
    ending = ending_of(socket, Limits(last_receipt=60), waker.wake)
    ending.stored = stored = being_stored()
    ending.begin(1012)

    ending.finish(complete=True)
    assert (socket.sent, waker.woken) == ([], False)
    stored.set_result(None)
    await eventually(lambda: waker.woken)
    ending.finish(complete=True)

    assert socket.sent == [("close", 1012)]


async def test_what_takes_long_to_store_is_not_waited_for() -> None:
    socket, waker = FakeSocket(), Waker()
    ending = ending_of(socket, Limits(last_receipt=SOON), waker.wake)
    ending.stored = being_stored()
    ending.begin(1012)
    ending.finish(complete=True)

    await eventually(lambda: waker.woken)
    ending.finish(complete=True)

    assert socket.sent == [("close", 1012)]


async def test_nobody_is_woken_once_ours_is_sent() -> None:
    waker = Waker()
    ending = ending_of(FakeSocket(), Limits(last_receipt=SOON), waker.wake)
    ending.begin(1012)
    ending.finish(complete=True)

    await outlive(SOON)

    assert not waker.woken


async def test_a_close_proves_what_had_left_us_the_first_time_it_comes() -> None:
    proven = []
    for unsent in (0, 1):
        socket = FakeSocket()
        ending = ending_of(socket)
        socket.waiting = unsent
        first = ending.closed_by_peer(1000)
        socket.waiting = 0
        proven.append((first, ending.closed_by_peer(1000)))

    assert proven == [(True, False), (False, False)]


async def test_one_that_is_read_after_the_link_is_lost_does_so_too() -> None:
    proven = []
    for unsent in (0, 1):
        socket = FakeSocket()
        ending = ending_of(socket)
        socket.waiting = unsent
        ending.lost()
        socket.waiting = 0
        proven.append(ending.closed_by_peer(1000))

    assert proven == [True, False]


End = Callable[[Ending], object]


@pytest.mark.parametrize(
    "end",
    [
        lambda ending: ending.begin(1012),
        lambda ending: ending.closed_by_peer(1000),
        lambda ending: ending.ended_by_peer(),
    ],
    ids=["begin", "closed_by_peer", "ended_by_peer"],
)
async def test_whoever_does_not_let_go_of_the_link_is_cut_off(end: End) -> None:
    socket = FakeSocket()
    ending = ending_of(socket, Limits(close=SOON))

    end(ending)
    assert not socket.aborted
    await eventually(lambda: socket.aborted)

    assert ending.silent


@pytest.mark.parametrize(
    ("end", "aborted"),
    [
        (lambda ending: ending.abort(), True),
        (lambda ending: ending.ended_by_peer(), False),
        (lambda ending: ending.lost(), False),
    ],
    ids=["abort", "ended_by_peer", "lost"],
)
@pytest.mark.parametrize(("begun", "code"), [(0, 1006), (1012, 1012)])
async def test_after_an_end_without_close_frames_nothing_is_said_and_the_first_code_stays(
    end: End, aborted: bool, begun: int, code: int
) -> None:
    socket = FakeSocket()
    ending = ending_of(socket)
    if begun:
        ending.begin(begun)

    end(ending)

    assert (ending.code, ending.silent) == (code, True)
    assert (socket.aborted, socket.sent) == (aborted, [])


@pytest.mark.parametrize(("begun", "code"), [(0, 4101), (1012, 1012)])
async def test_a_peer_that_takes_nothing_for_long_is_cut_off(begun: int, code: int) -> None:
    socket = FakeSocket()
    ending = ending_of(socket, Limits(stall=SOON))
    if begun:
        ending.begin(begun)

    ending.filled()
    await eventually(lambda: socket.aborted)

    assert (ending.code, ending.silent) == (code, True)


async def test_one_that_has_taken_it_in_time_is_not() -> None:
    socket = FakeSocket()
    ending = ending_of(socket, Limits(stall=SOON))

    ending.filled()
    ending.drained()
    await outlive(SOON)

    assert (ending.code, socket.aborted) == (0, False)


async def test_of_a_link_that_is_lost_no_timer_is_left() -> None:
    socket, waker = FakeSocket(), Waker()
    limits = Limits(close=SOON, stall=SOON, last_receipt=SOON)
    ending = ending_of(socket, limits, waker.wake)
    ending.stored = stored = being_stored()
    ending.filled()
    ending.begin(1012, receipt=True)
    ending.finish(complete=False)
    ending.ended_by_peer()

    ending.lost()
    await outlive(SOON)

    assert (socket.aborted, waker.woken) == (False, False)
    assert ending.stored is stored  # the wait for it was not given up either


async def test_nor_anything_that_leads_to_whom_it_would_wake() -> None:
    waker = Waker()
    ending = ending_of(FakeSocket(), wake=waker.wake)
    ending.stored = stored = being_stored()
    ending.begin(1012)
    ending.finish(complete=True)
    left = weakref.ref(waker)
    gc.disable()

    try:
        ending.lost()
        del waker
        assert left() is None
    finally:
        gc.enable()
    stored.set_result(None)  # which wakes nobody now
