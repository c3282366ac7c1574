"""Notice a peer that takes nothing of what is sent to it."""

import asyncio
from collections.abc import Callable

CHECKS = 5  # times that progress is looked at before a peer counts as stalled


class StallWatch:
    """Calls *stalled* once when *progress* has not changed for so many seconds, until stopped."""

    __slots__ = ("_loop", "_progress", "_seconds", "_stalled", "_timer")

    def __init__(
        self, progress: Callable[[], object], seconds: float, stalled: Callable[[], None]
    ) -> None:
        """Look at *progress* several times in *seconds*."""
        self._progress = progress
        self._seconds = seconds
        self._stalled = stalled
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle

    def start(self) -> None:
        """Begin to look."""
        self._look(None, 0.0)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self, seen: object, since: float) -> None:
        now, progress = self._loop.time(), self._progress()
        if progress != seen:
            since = now
        elif now - since >= self._seconds:
            self._stalled()
            return
        self._timer = self._loop.call_later(self._seconds / CHECKS, self._look, progress, since)
