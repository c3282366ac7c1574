"""Find out whether a client is still there, and what it has of what it was sent."""

import asyncio

from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits

NEVER = float("inf")
TICK = 0.001  # seconds; a timer of uvloop may come as much too early, and would be set for nothing


class Heartbeat:
    """
    Pings a client after a silence and after postbacks, and cuts it off if no ping is answered.

    A client whose wire has a frame for it is also shown that we are there: browsers hide pings.
    There is one timer for all that: ten thousand silent clients are to cost next to nothing.
    """

    __slots__ = (
        "_answer_due",
        "_ask_due",
        "_beat_due",
        "_connection",
        "_limits",
        "_loop",
        "_receipts",
        "_silence_due",
        "_suspended",
        "_throttled",
        "_timer",
        "_timer_due",
    )

    def __init__(self, connection: Connection, limits: Limits) -> None:
        """Watch over *connection*; begin at once."""
        self._connection = connection
        self._receipts = connection.receipts
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._suspended = False
        self._throttled = False  # what is heard may have lain unread for long
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = NEVER
        # The loop's times at which to see to the silence, our own, a receipt and an answer.
        self._silence_due = self._loop.time() + limits.heartbeat
        self._beat_due = NEVER if connection.wire.heartbeat is None else self._silence_due
        self._ask_due = self._answer_due = NEVER
        self._set_timer()
        connection.delivered = self._delivered

    def heard(self) -> None:
        """Note a frame of the client."""
        self._connection.heard_at = self._loop.time()

    def suspend(self) -> None:
        """Do not count the time from now on: nobody reads, so no answer can be seen."""
        self._suspended = self._throttled = True

    def resume(self) -> None:
        """Count the time again; the answer may lie unread, so its time begins now."""
        self._suspended = False
        if self._receipts.asked_at is not None:
            self._receipts.asked_at = self._loop.time()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = -NEVER  # nothing is due before

    def _delivered(self) -> None:
        """Ask for a receipt soon, but not too often."""
        if self._ask_due == NEVER:
            earliest = self._receipts.pinged_at + self._limits.receipt_every
            self._ask_due = max(self._loop.time() + self._limits.receipt_delay, earliest)
            self._set_timer()

    def _look(self) -> None:
        """See to all that is due."""
        self._timer, self._timer_due = None, NEVER
        now = self._loop.time() + TICK
        if self._ask_due <= now:
            self._ask()
        if self._answer_due <= now:
            self._miss_answer(now)
        if self._silence_due <= now:
            self._break_silence(now)
        if self._beat_due <= now:
            self._beat(now)
        self._set_timer()

    def _set_timer(self) -> None:
        due = min(self._silence_due, self._beat_due, self._ask_due, self._answer_due)
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_at(due, self._look)

    def _ask(self) -> None:
        self._ask_due = NEVER
        if not self._receipts.complete:
            self._ping()

    def _break_silence(self, now: float) -> None:
        """Ping, unless the client was heard meanwhile: then look again when it may be due."""
        due = self._connection.heard_at + self._limits.heartbeat
        if due > now and not self._throttled:
            self._silence_due = due
            return
        self._throttled = self._suspended
        self._ping()
        self._silence_due = now + self._limits.heartbeat

    def _ping(self) -> None:
        self._connection.ping()
        if self._answer_due == NEVER:
            self._answer_due = self._loop.time() + self._limits.pong

    def _miss_answer(self, now: float) -> None:
        """Cut the client off, unless it could not answer: the ping left late, or nobody reads."""
        self._answer_due = NEVER
        if self._suspended:
            self._ping()  # which fails at once if the link is gone
        elif self._connection.ping_waits:
            self._answer_due = now + self._limits.pong
        elif self._receipts.asked_at is not None:
            due = self._receipts.asked_at + self._limits.pong
            if due > now:
                self._answer_due = due
            else:
                self._connection.abort()

    def _beat(self, now: float) -> None:
        """Show a sign of life, unless the client has got a frame meanwhile."""
        due = self._connection.sent_at + self._limits.heartbeat
        if due <= now:
            due = now + self._limits.heartbeat
            if self._connection.session and self._connection.wire.heartbeat is not None:
                self._connection.offer(self._connection.wire.heartbeat)
        self._beat_due = due
