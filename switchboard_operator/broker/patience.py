"""Notice that nothing happens, at next to no cost for each thing that does."""

import asyncio
from collections.abc import Callable


class Patience:
    """
    Calls *over* once nothing has renewed it for *seconds*, while it is on.

    One timer at most is under way, however often it is renewed, switched off and on: it looks when
    it fires whether it came too early, and sleeps for the rest.
    """

    def __init__(self, seconds: float, over: Callable[[], None]) -> None:
        """Begin switched off."""
        self._seconds = seconds
        self._over = over
        self._on = False
        self._since = 0.0  # the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop  # looked up once: in Python 3.11 that asks the kernel

    def start(self) -> None:
        """Switch it on: the time begins now."""
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(self._seconds, self._look)
        self._on = True
        self._since = self._loop.time()

    def renew(self) -> None:
        """Begin the time anew, if it is on."""
        if self._on:
            self._since = self._loop.time()

    def stop(self) -> None:
        """Switch it off."""
        self._on = False

    def _look(self) -> None:
        self._timer = None
        if not self._on:
            return
        left = self._since + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._on = False
            self._over()
