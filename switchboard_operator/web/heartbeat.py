"""Find out whether a silent client is still there."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits


class Heartbeat:
    """Pings a client after a silence, and cuts it off if the ping stays unanswered."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        """Watch over *connection*; begin at once."""
        self._connection = connection
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._pinged = False
        self._suspended = False
        self._throttled = False  # what is heard may have lain unread for long
        self._timer = self._loop.call_later(limits.heartbeat, self._silence)

    def heard(self, *, pong: bool) -> None:
        """Note a frame of the client, a *pong* among them being the answer to the latest ping."""
        self._connection.heard_at = self._loop.time()
        if pong and self._pinged:
            self._pinged = False
            self._again(self._limits.heartbeat)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Do not count the time in the context: nobody reads, so no answer can be seen."""
        self._suspended = self._throttled = True
        try:
            yield
        finally:
            self._suspended = False
            if self._pinged:  # the answer may lie unread: it has all its time from now on
                self._await_pong(self._limits.pong)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _silence(self) -> None:
        """Ping, unless the client was heard meanwhile: then look again when it may be due."""
        left = self._connection.heard_at + self._limits.heartbeat - self._loop.time()
        if left > 0 and not self._throttled:
            self._again(left)
            return
        self._throttled = self._suspended
        self._connection.ping(b"")
        self._pinged = True
        self._await_pong(self._limits.pong)

    def _unanswered(self) -> None:
        """Cut the client off, unless it could not answer: the ping left late, or nobody reads."""
        left = self._connection.pinged_at + self._limits.pong - self._loop.time()
        if self._suspended:
            self._connection.ping(b"")  # which fails at once if the link is gone
            self._await_pong(self._limits.pong)
        elif self._connection.ping_waits:
            self._await_pong(self._limits.pong)
        elif left > 0:
            self._await_pong(left)
        else:
            self._connection.abort()

    def _await_pong(self, delay: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(delay, self._unanswered)

    def _again(self, delay: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(delay, self._silence)
