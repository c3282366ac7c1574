"""What a client was sent, and what it has proven to have by the pongs that answer our pings."""

from switchboard_operator import marks
from switchboard_operator.marks import NOWHERE, Mark


class Receipts:
    """
    Keeps the last id written and the last one proven; times are the loop's.

    Each ping carries the last id written before it, so its pong proves that id and all before it. A
    client need only answer our latest ping (RFC 6455, 5.5.3).
    """

    __slots__ = ("_pinged_with", "asked_at", "pinged_at", "proven", "written")

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.written = NOWHERE
        self.proven = NOWHERE
        self.pinged_at = float("-inf")  # the latest ping
        self._pinged_with = b""
        self.asked_at: float | None = None  # the oldest ping since the client last answered one

    @property
    def complete(self) -> bool:
        """Tell whether the client has proven to have all that was written."""
        return self.proven == self.written

    @property
    def payload(self) -> bytes:
        """Return the payload of a ping: the last id written."""
        return str(self.written).encode()

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
        mark = marks.parse(payload.decode("ascii", "replace"))
        if mark is None or mark.epoch != self.written.epoch or mark > self.written:
            return None  # made up, or of an epoch that is over
        return self._prove(mark)

    def all_arrived(self) -> Mark | None:
        """Note that the client has all that was written; return the id if that is new."""
        return self._prove(self.written)

    def _prove(self, mark: Mark) -> Mark | None:
        if mark.epoch == self.proven.epoch and mark <= self.proven:
            return None
        self.proven = mark
        return mark
