"""A time-out that moves with every request, and costs next to nothing to move."""

import asyncio
from collections.abc import Callable


class Deadline:
    """
    Rings once the time it was last set to has come.

    A timer that goes off before then is wound up again, so that moving the time on needs none.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        """Call *ring* when it is time."""
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._at = self._timer_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Ring in so many *seconds*, not when it was set to before."""
        self._at = self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._at:
            self._wind()

    def cancel(self) -> None:
        """Don't ring any more, and let go of who would hear it: nobody waits for the collector."""
        self._unwind()
        self._ring = _nobody

    def _wind(self) -> None:
        self._unwind()
        self._timer_at = self._at
        self._timer = self._loop.call_at(self._at, self._wake)

    def _unwind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        if self._loop.time() < self._at:
            self._wind()
        else:
            self._ring()


def _nobody() -> None:
    """Hear nothing."""
