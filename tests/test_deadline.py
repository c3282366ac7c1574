"""A time-out that moves: when it rings, and when not."""

import asyncio

from switchboard_operator.web.deadline import Deadline


class Bell:
    """Keeps when its deadline rang."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.rung = asyncio.Event()
        self.times: list[float] = []
        self.deadline = Deadline(self.ring)

    def ring(self) -> None:
        self.times.append(self.loop.time() - self.began)
        self.rung.set()


async def test_it_rings_once_at_its_time() -> None:
    bell = Bell()
    bell.deadline.set(0.05)

    await bell.rung.wait()
    await asyncio.sleep(0.1)

    [rang] = bell.times
    assert rang >= 0.049


async def test_moved_on_it_rings_at_the_later_time_only() -> None:
    bell = Bell()
    bell.deadline.set(0.05)
    bell.deadline.set(0.2)

    await bell.rung.wait()

    [rang] = bell.times
    assert rang >= 0.199


async def test_moved_back_it_rings_at_the_earlier_time() -> None:
    bell = Bell()
    bell.deadline.set(60)
    bell.deadline.set(0.05)

    await bell.rung.wait()

    assert len(bell.times) == 1


async def test_moved_on_while_it_is_wound_for_less_it_can_be_moved_back_again() -> None:
    bell = Bell()
    bell.deadline.set(0.02)
    bell.deadline.set(60)
    await asyncio.sleep(0.05)  # it goes off, and is wound up for the minute
    bell.deadline.set(0.02)

    await bell.rung.wait()

    assert len(bell.times) == 1


async def test_cancelled_it_does_not_ring() -> None:
    bell = Bell()
    bell.deadline.set(0.02)
    bell.deadline.cancel()
    await asyncio.sleep(0.06)

    assert not bell.times


async def test_after_it_rang_it_can_be_set_again() -> None:
    bell = Bell()
    bell.deadline.set(0.01)
    await bell.rung.wait()
    bell.rung.clear()
    bell.deadline.set(0.01)

    await bell.rung.wait()

    assert len(bell.times) == 2
