"""Notice how late the event loop runs what is due."""

import asyncio
from collections import deque
from time import monotonic
from typing import Self


class LoopLag:
    """Looks *every* so many seconds, within the context, how late it is, and knows the worst."""

    def __init__(self, every: float, window: float) -> None:
        """Remember the looks of the last *window* seconds, and no more."""
        self._every = every
        self._lags = deque([0.0], maxlen=round(window / every))
        self._timer: asyncio.TimerHandle

    def __enter__(self) -> Self:
        """Begin to look."""
        self._wait()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop."""
        self._timer.cancel()

    def worst(self) -> float:
        """Return the worst lag within the window, in seconds."""
        return max(self._lags)

    def _wait(self) -> None:
        # Not the loop's time: uvloop reads its clock once a turn, before the work that delays us.
        self._timer = asyncio.get_running_loop().call_later(
            self._every, self._look, monotonic() + self._every
        )

    def _look(self, due: float) -> None:
        self._lags.append(max(0.0, monotonic() - due))
        self._wait()
