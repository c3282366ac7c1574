"""A peer that takes nothing: noticed once, in time, and only while it is watched."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from switchboard_operator.stall_watch import StallWatch


@contextmanager
def watched(
    progress: Callable[[], object], seconds: float, stalled: Callable[[], None]
) -> Iterator[None]:
    watch = StallWatch(progress, seconds, stalled)
    watch.start()
    yield
    watch.stop()


async def test_who_makes_no_progress_is_noticed_once_when_the_time_is_up() -> None:
    stalled = asyncio.Event()
    calls: list[float] = []
    loop = asyncio.get_running_loop()
    began = loop.time()

    def note() -> None:
        calls.append(loop.time() - began)
        stalled.set()

    with watched(lambda: 0, 0.05, note):
        await stalled.wait()
        await asyncio.sleep(0.1)  # twice the time that it takes to be noticed

    [after] = calls
    assert after >= 0.05


async def test_who_makes_some_progress_is_left_in_peace() -> None:
    looks = itertools.count()
    calls: list[int] = []
    looked = asyncio.Event()

    def progress() -> int:
        look = next(looks)
        if look == 30:  # many times as long as it takes to be noticed
            looked.set()
        return look

    with watched(progress, 0.02, lambda: calls.append(1)):
        await looked.wait()

    assert calls == []


async def test_who_stops_after_a_while_is_noticed_from_then_on() -> None:
    loop = asyncio.get_running_loop()
    stalled: asyncio.Future[float] = loop.create_future()
    steps = iter([1, 2, 3, 4, 5, 6, 7, 8])
    last_step = 0.0

    def progress() -> int:
        nonlocal last_step
        step = next(steps, 0)
        if step:
            last_step = loop.time()
        return step or 8

    with watched(progress, 0.05, lambda: stalled.set_result(loop.time())):
        noticed = await stalled

    assert noticed - last_step > 0.045  # the clock is read just before the last step


async def test_progress_may_go_up_and_down() -> None:
    stalled = asyncio.Event()
    unsent = iter([5, 3, 4, 3, 5, 3, 4, 3])

    with watched(lambda: next(unsent, 0), 0.02, stalled.set):
        await stalled.wait()

    assert next(unsent, None) is None


async def test_whoever_is_no_longer_watched_is_not_noticed() -> None:
    calls: list[int] = []
    looks: list[int] = []

    def progress() -> int:
        looks.append(1)
        return 0

    with watched(progress, 0.02, lambda: calls.append(1)):
        pass
    await asyncio.sleep(0.06)  # thrice the time that it takes to be noticed

    assert (calls, len(looks)) == ([], 1)


async def test_a_watch_that_has_called_ends_quietly() -> None:
    stalled = asyncio.Event()

    with watched(lambda: 0, 0.01, stalled.set):
        await stalled.wait()

    assert stalled.is_set()
