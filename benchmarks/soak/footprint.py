"""What an instance takes, and whether it is ever more."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, mean
from typing import NamedTuple

from benchmarks.bench.processes import resident
from switchboard_operator.limits import Limits
from tests.switchboards import Switchboard, eventually

EVERY = 5.0  # seconds from one look to the next
WARM_UP = 0.25  # of the run, before memory is looked at
SHORTEST = 420.0  # seconds that looks must span for their slope to mean anything
# kB a minute. One kB for each user who comes back, or 100 bytes for each message, would be twice
# as much at the rates of a usual run. And what grows no faster, by 430 MB in a day, does not fill
# a machine of 512 MB that starts its processes anew every day, as Heroku does.
BOUND = 300.0
# In the first minutes it has to grow: what became of a v1 message is known for GATHERING, which is
# 400 kB a minute, and the heap finds its size. A run that ends then shows gross leaks alone.
GATHERING = Limits().outcome
EARLY_BOUND = 1500.0


class Look(NamedTuple):
    """What an instance took at some time."""

    at: float  # seconds
    resident: int  # bytes


@dataclass(frozen=True)
class Holdings:
    """What an instance holds, of which nothing may be left over."""

    descriptors: int
    tasks: int

    @classmethod
    async def of(cls, board: Switchboard) -> "Holdings":
        """Ask *board*."""
        tasks = int(await board.metric("switchboard_tasks"))
        return cls(descriptors(pid_of(board)), tasks)


class Memory:
    """Looks at the memory of an instance, again and again."""

    def __init__(self, pid: int) -> None:
        """Look at the process *pid*."""
        self.looks: list[Look] = []
        self._pid = pid

    async def watch(self) -> None:
        """Look every so many seconds, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self.looks.append(Look(loop.time(), resident(self._pid)))
            await asyncio.sleep(EVERY)

    def shown(self) -> str:
        """Return how much it was at last."""
        return f"{self.looks[-1].resident / 1e6:.1f} MB"

    def verdict(self) -> tuple[str, bool]:
        """Tell how it grew, and whether that is no leak."""
        spanned = self.looks[-1].at - self.looks[0].at
        if spanned >= GATHERING + SHORTEST:
            return self._judge(max(WARM_UP * spanned, GATHERING), BOUND)
        if spanned * (1 - WARM_UP) >= SHORTEST:
            return self._judge(WARM_UP * spanned, EARLY_BOUND)
        text, _ = self._judge(WARM_UP * spanned, EARLY_BOUND)
        return f"{text}, but this is too short a time to tell", True

    def _judge(self, warm_up: float, bound: float) -> tuple[str, bool]:
        looks = [look for look in self.looks if look.at >= self.looks[0].at + warm_up]
        growth = slope(looks)
        level = mean(look.resident for look in looks) / 1000
        share = 100 * growth * 60 / level
        text = (
            f"{level / 1000:.1f} MB, {growth:+.0f} kB/min, {share:+.1f} %/h after {warm_up:.0f} s"
        )
        return f"{text}; {bound:.0f} kB/min would be a leak", growth < bound


def slope(looks: Sequence[Look]) -> float:
    """Return by how many kB a minute memory grows, by least squares; 0 of a single look."""
    if len(looks) < 2:
        return 0.0
    minutes = [look.at / 60 for look in looks]
    return linear_regression(minutes, [look.resident / 1000 for look in looks]).slope


def pid_of(board: Switchboard) -> int:
    """Return the process that *board* is."""
    assert board.process is not None
    return board.process.pid


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def at_rest(board: Switchboard) -> Holdings:
    """Return what *board* holds once it has all the links that it wants."""

    async def is_ready() -> bool:
        status, _ = await board.get("/ready")
        return status == 200

    await eventually(is_ready)
    return await Holdings.of(board)


async def left_over(board: Switchboard, before: Holdings, patience: float) -> Holdings:
    """Return what *board* holds once it is no more than *before*, or after so many seconds."""

    async def let_go() -> bool:
        now = await Holdings.of(board)
        return now.descriptors <= before.descriptors and now.tasks <= before.tasks

    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await eventually(let_go, pause=0.5)
    return await Holdings.of(board)
