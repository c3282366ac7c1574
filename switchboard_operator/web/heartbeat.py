"""Find out whether a client is still there, and what it has of what it was sent."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits


class Heartbeat:
    """
    Pings a client after a silence and after postbacks, and cuts it off if no ping is answered.

    A client whose wire has a frame for it is also shown that we are there: browsers hide pings.
    """

    def __init__(self, connection: Connection, limits: Limits) -> None:
        """Watch over *connection*; begin at once."""
        self._connection = connection
        self._receipts = connection.receipts
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._suspended = False
        self._throttled = False  # what is heard may have lain unread for long
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._set(self._silence, limits.heartbeat)
        if connection.wire.heartbeat is not None:
            self._set(self._beat, limits.heartbeat)
        connection.delivered = self._delivered

    def heard(self) -> None:
        """Note a frame of the client."""
        self._connection.heard_at = self._loop.time()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Do not count the time in the context: nobody reads, so no answer can be seen."""
        self._suspended = self._throttled = True
        try:
            yield
        finally:
            self._suspended = False
            if (
                self._receipts.asked_at is not None
            ):  # the answer may lie unread: its time begins now
                self._receipts.asked_at = self._loop.time()

    def stop(self) -> None:
        """Stop watching."""
        for timer in self._timers.values():
            timer.cancel()

    def _delivered(self) -> None:
        """Ask for a receipt soon, but not too often."""
        if self._ask not in self._timers:
            earliest = self._receipts.pinged_at + self._limits.receipt_every - self._loop.time()
            self._set(self._ask, max(self._limits.receipt_delay, earliest))

    def _ask(self) -> None:
        del self._timers[self._ask]
        if not self._receipts.complete:
            self._ping()

    def _silence(self) -> None:
        """Ping, unless the client was heard meanwhile: then look again when it may be due."""
        left = self._connection.heard_at + self._limits.heartbeat - self._loop.time()
        if left > 0 and not self._throttled:
            self._set(self._silence, left)
            return
        self._throttled = self._suspended
        self._ping()
        self._set(self._silence, self._limits.heartbeat)

    def _ping(self) -> None:
        self._connection.ping()
        if self._unanswered not in self._timers:
            self._set(self._unanswered, self._limits.pong)

    def _unanswered(self) -> None:
        """Cut the client off, unless it could not answer: the ping left late, or nobody reads."""
        del self._timers[self._unanswered]
        if self._suspended:
            self._ping()  # which fails at once if the link is gone
        elif self._connection.ping_waits:
            self._set(self._unanswered, self._limits.pong)
        elif self._receipts.asked_at is not None:
            left = self._receipts.asked_at + self._limits.pong - self._loop.time()
            if left > 0:
                self._set(self._unanswered, left)
            else:
                self._connection.abort()

    def _beat(self) -> None:
        """Show a sign of life, unless the client has got a frame meanwhile."""
        left = self._connection.sent_at + self._limits.heartbeat - self._loop.time()
        if left <= 0 and self._connection.session and self._connection.wire.heartbeat is not None:
            self._connection.offer(self._connection.wire.heartbeat)
        self._set(self._beat, left if left > 0 else self._limits.heartbeat)

    def _set(self, call: Callable[[], None], delay: float) -> None:
        self._timers[call] = self._loop.call_later(delay, call)
