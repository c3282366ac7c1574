"""A time that is over when nothing has renewed it, and how little it takes to do so."""

import asyncio
from collections.abc import Callable
from typing import Any

from switchboard_operator.broker.patience import Patience

TICK = 0.001  # seconds, in which uvloop's clock goes
SHORT = 0.05  # seconds


class Over(asyncio.Event):
    """When a patience was over, in the loop's time."""

    at = 0.0

    def now(self) -> None:
        self.at = asyncio.get_running_loop().time()
        self.set()


async def test_it_is_over_when_nothing_has_come_for_so_long() -> None:
    over, loop = Over(), asyncio.get_running_loop()
    patience = Patience(SHORT, over.now)
    began = loop.time()

    patience.start()
    await over.wait()

    assert over.at - began >= SHORT - TICK


async def test_what_renews_it_puts_its_end_off() -> None:
    over, loop = Over(), asyncio.get_running_loop()
    patience = Patience(SHORT, over.now)

    patience.start()
    await asyncio.sleep(SHORT / 2)
    patience.renew()
    renewed = loop.time()
    await over.wait()

    assert over.at - renewed >= SHORT - TICK


async def test_it_is_never_over_while_it_is_off() -> None:
    over, later = Over(), Over()
    patience, other = Patience(SHORT, over.now), Patience(2 * SHORT, later.now)

    patience.start()
    patience.stop()
    patience.renew()
    other.start()
    await later.wait()

    assert not over.is_set()


async def test_it_can_be_over_again() -> None:
    over = Over()
    patience = Patience(SHORT, over.now)

    for _ in range(2):
        over.clear()
        patience.start()
        await over.wait()


def test_however_often_it_is_used_it_has_one_timer() -> None:
    async def use() -> int:
        patience = Patience(60, lambda: None)
        loop: Any = asyncio.get_running_loop()
        before = timers(loop)
        for _ in range(100):
            patience.start()
            patience.renew()
            patience.stop()
        return timers(loop) - before

    assert asyncio.run(use()) == 1  # asyncio's own loop, which shows its timers


def timers(loop: Any) -> int:
    scheduled: list[Callable[[], None]] = loop._scheduled  # which nothing else shows
    return len(scheduled)
