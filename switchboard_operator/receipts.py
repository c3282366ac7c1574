"""What a client was sent, and what it has proven to have by the pongs that answer our pings."""

from math import inf

from switchboard_operator import marks
from switchboard_operator.marks import NOWHERE, Mark

SAMPLES = 4  # answers to pings, so that one of them at least was not held up
SLACK = 0.02  # seconds by which even that one may have been


class Receipts:
    """
    Keeps the last id written and the last one proven; times are the loop's.

    Each ping carries the last id written before it, so its pong proves that id and all before it. A
    client need only answer our latest ping (RFC 6455, 5.5.3).

    A client's Close frame may cross with what was written just before it came: what its pongs take
    at least tells what can't have arrived.
    """

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.written = NOWHERE
        self.proven = NOWHERE
        self.pinged_at = -inf  # the latest ping
        self._pinged_with = b""
        self.asked_at: float | None = None  # the oldest ping since the client last answered one
        self._wrote_at = self._turned_at = -inf
        self._before_turn = self._long_before = NOWHERE  # the last id before that, a way earlier
        self._answers = 0
        self._quickest = inf  # answer, in seconds

    @property
    def complete(self) -> bool:
        """Tell whether the client has proven to have all that was written."""
        return self.proven == self.written

    @property
    def payload(self) -> bytes:
        """Return the payload of a ping: the last id written."""
        return str(self.written).encode()

    def wrote(self, mark: Mark, now: float) -> None:
        """Note that the postback with this id is being written."""
        if now - self._turned_at >= self._way:
            self._long_before, self._before_turn = self._before_turn, self.written
            self._turned_at = now
        self.written, self._wrote_at = mark, now

    def pinged(self, now: float) -> None:
        """Note that a ping has been sent."""
        self.pinged_at = now
        self._pinged_with = self.payload
        if self.asked_at is None:
            self.asked_at = now

    def pong(self, payload: bytes, now: float) -> Mark | None:
        """Take a client's answer; return the id that it proves anew, None if it proves nothing."""
        if self.asked_at is not None:
            self.asked_at = None if payload == self._pinged_with else now
        if payload == self._pinged_with:
            self._answers += 1
            self._quickest = min(self._quickest, now - self.pinged_at)
        mark = marks.parse(payload.decode("ascii", "replace"))
        if mark is None or mark.epoch != self.written.epoch or mark > self.written:
            return None  # made up, or of an epoch that is over
        return self._prove(mark)

    def closed(self, now: float) -> Mark | None:
        """Take a client's Close frame; return the id that it proves anew, if it proves one."""
        if now - self._wrote_at >= self._way:
            return self._prove(self.written)
        arrived = self._before_turn if now - self._turned_at >= self._way else self._long_before
        return self._prove(arrived) if arrived.epoch == self.written.epoch else None

    @property
    def _way(self) -> float:
        """Return the seconds that a frame and its answer take at least, as far as is certain."""
        return max(0.0, self._quickest - SLACK) if self._answers >= SAMPLES else 0.0

    def _prove(self, mark: Mark) -> Mark | None:
        if mark.epoch == self.proven.epoch and mark <= self.proven:
            return None
        self.proven = mark
        return mark
