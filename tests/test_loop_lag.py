"""An event loop that is kept from its work, and one that is not."""

import asyncio
import time

import pytest

from switchboard_operator.limits import Limits
from switchboard_operator.loop_lag import LoopLag
from tests.fakes import FakeConcierge
from tests.switchboards import eventually, switchboard

pytestmark = pytest.mark.slow  # each waits to see what happens, or does not

EVERY = 0.01
BLOCKED = 0.2
SEEN = BLOCKED - 2 * EVERY  # the block begins up to one look before the next is due
QUIET = BLOCKED / 2  # what a loop that does nothing may be late, where others keep it from that


def block() -> None:
    time.sleep(BLOCKED)


async def test_a_loop_that_is_blocked_is_late_by_that() -> None:
    with LoopLag(EVERY, window=60) as lag:
        block()

        await eventually(lambda: lag.worst() >= SEEN)


async def test_a_loop_that_idles_is_hardly_late() -> None:
    with LoopLag(EVERY, window=5 * EVERY) as lag:
        block()
        await eventually(lambda: lag.worst() >= SEEN, pause=EVERY)

        await eventually(lambda: lag.worst() < QUIET)


async def test_the_worst_is_remembered_when_the_loop_has_been_quick_again() -> None:
    with LoopLag(EVERY, window=60) as lag:
        block()
        await asyncio.sleep(10 * EVERY)

        assert lag.worst() >= SEEN


async def test_nothing_is_noticed_after_the_end() -> None:
    with LoopLag(EVERY, window=60) as lag:
        await eventually(lambda: lag.worst() > 0)
    before = lag.worst()

    time.sleep(before + BLOCKED)  # noqa: ASYNC251 - it is the loop that is to be late
    await asyncio.sleep(5 * EVERY)

    assert lag.worst() == before


async def test_the_lag_is_shown_and_forgotten_after_a_while(concierge: FakeConcierge) -> None:
    limits = Limits(lag_every=EVERY, lag_window=20 * EVERY)
    async with switchboard(concierge.url, limits) as board:

        async def lag() -> float:
            return await board.metric("switchboard_event_loop_lag_seconds")

        async def late() -> bool:
            block()
            return await lag() >= SEEN

        async def in_time() -> bool:
            return await lag() < QUIET

        await eventually(late)
        await eventually(in_time, pause=30 * EVERY)  # which is no work for as long as is shown
