"""A short soak, and what finds leaks in a long one."""

import asyncio
import sys

import pytest

from benchmarks.soak.footprint import (
    BOUND,
    EARLY_BOUND,
    EVERY,
    GATHERING,
    SHORTEST,
    Look,
    Memory,
    at_rest,
    left_over,
)
from tests.fakes import FakeConcierge
from tests.switchboards import ROOT, switchboard_process, variables

HOUR = 3600.0  # seconds
TEN_MINUTES = 600.0
MB = 1_000_000


def memory(growth: float, seconds: float, at_first: float = 0.0) -> Memory:
    """Return looks at memory that grows by *growth* kB/min, and by *at_first* MB in the warm-up."""
    seen = Memory(pid=0)
    for number in range(int(seconds / EVERY) + 1):
        at = number * EVERY
        warming = min(1.0, at / (0.25 * seconds)) * at_first * MB
        wave = 0.2 * MB * (number % 3)
        seen.looks.append(Look(at, int(80 * MB + warming + wave + growth * 1000 * at / 60)))
    return seen


@pytest.mark.parametrize(
    ("growth", "seconds", "good"),
    [
        (0.0, HOUR, True),
        (-500.0, HOUR, True),
        (0.8 * BOUND, HOUR, True),
        (1.2 * BOUND, HOUR, False),
        (0.8 * EARLY_BOUND, TEN_MINUTES, True),
        (1.2 * EARLY_BOUND, TEN_MINUTES, False),
    ],
)
def test_memory_that_grows_is_a_leak(growth: float, seconds: float, good: bool) -> None:
    text, judged = memory(growth, seconds).verdict()

    assert judged is good, text


@pytest.mark.parametrize("seconds", [HOUR, TEN_MINUTES])
def test_what_grows_while_it_warms_up_is_no_leak(seconds: float) -> None:
    text, good = memory(0.0, seconds, at_first=500).verdict()

    assert good, text


def test_what_is_kept_for_ten_minutes_is_no_leak_in_twenty() -> None:
    gathering = memory(2 * BOUND, GATHERING).looks
    full = [Look(GATHERING + at, gathering[-1].resident) for at, _ in gathering]
    seen = Memory(pid=0)
    seen.looks = [*gathering, *full]

    text, good = seen.verdict()

    assert good, text


def test_a_short_run_tells_nothing_of_memory() -> None:
    text, good = memory(100 * BOUND, SHORTEST).verdict()

    assert good
    assert "too short" in text


@pytest.mark.slow
async def test_a_socket_that_stays_is_left_over_until_it_goes(concierge: FakeConcierge) -> None:
    async with switchboard_process(variables(concierge.url)) as board:
        before = await at_rest(board)
        user = await board.connect()

        held = await left_over(board, before, patience=1.0)
        await user.close()
        released = await left_over(board, before, patience=20.0)

    assert held.descriptors == before.descriptors + 1
    assert held.tasks >= before.tasks
    assert released == before


@pytest.mark.slow
async def test_a_short_soak_loses_doubles_reorders_and_keeps_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.soak", "--seconds", "8", "--sockets", "40",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip

    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert b"lost 0, doubled 0, reordered 0" in output
    assert b"WRONG" not in output
