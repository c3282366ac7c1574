"""How a user's socket ends: who says so, what is waited for then, and for how long."""

import asyncio
from collections.abc import Callable

from switchboard_operator import frames
from switchboard_operator.limits import Limits
from switchboard_operator.sockets import Socket
from switchboard_operator.stall_watch import StallWatch


class Ending:
    """
    Ends one socket: by a Close frame each, ours and the peer's, after which the link is let go.

    Whoever closes first, our frame goes out after all else, once what the peer has is known and
    stored, or the time for that is up. The link of a peer that takes nothing, or does not let go,
    is cut. What is said before, and that nothing is after, is its owner's part.
    """

    __slots__ = (
        "_close_sent",
        "_dropped",
        "_farewell",
        "_guard",
        "_limits",
        "_peer_closed",
        "_socket",
        "_stall",
        "_wake",
        "_with_receipt",
        "code",
        "silent",
        "stored",
    )

    def __init__(self, socket: Socket, limits: Limits, wake: Callable[[], None]) -> None:
        """End *socket* within *limits*; *wake* is called when `finish` is to be tried again."""
        self.code = 0  # ours, or the peer's if it closed first; 0 while nobody ends it
        self.silent = False  # nothing more can be said
        self.stored: asyncio.Future[None] | None = None  # done when what was proven last is stored
        self._socket = socket
        self._limits = limits
        self._wake = wake
        self._with_receipt = self._close_sent = self._peer_closed = False
        self._dropped = 0  # bytes that had not left us when the link was lost
        self._stall: StallWatch | None = None  # while the peer has yet to take something
        self._guard: asyncio.TimerHandle | None = None  # of a peer that does not let go
        self._farewell: asyncio.TimerHandle | None = None  # the end of the wait for a receipt

    def begin(self, code: int, *, receipt: bool = False) -> None:
        """Close with *code*, with *receipt* not before the peer has proven all; only once."""
        self.code = code
        self._with_receipt = receipt
        self._set_guard()

    def closed_by_peer(self, code: int) -> bool:
        """
        Take the peer's Close frame, its last: it answers ours, or ours will answer it.

        Returns whether it proves that the peer has all: that had left us, and it is its first.
        """
        if self._peer_closed:
            return False
        all_arrived = not (self._dropped or self._socket.unsent())
        self._peer_closed = True
        self._with_receipt = False
        if not self.code:
            self.begin(code)
        if self._close_sent:
            self._socket.release()
        return all_arrived

    def finish(self, *, complete: bool) -> bool:
        """
        Send our Close frame, the last of all, once what the peer has is known as well as can be.

        Returns whether a ping has to ask for that first: its receipts are not *complete*.
        """
        if self._farewell is None:
            self._farewell = _later(self._limits.last_receipt, self._wait_no_more)
            if self._with_receipt and not complete:
                return True
        if not self._waits(complete):
            self._farewell.cancel()
            self._close_sent = self.silent = True
            self._socket.close(self.code)
            if self._peer_closed:
                self._socket.release()
        return False

    def abort(self) -> None:
        """Drop the link at once: the peer is gone or takes nothing."""
        self._fall_silent(frames.ABNORMAL)
        self._socket.abort()

    def ended_by_peer(self) -> None:
        """Note that the peer has closed its side: what is unsent has a while to arrive."""
        self._fall_silent(frames.ABNORMAL)
        if self._guard is None:
            self._set_guard()

    def filled(self) -> None:
        """Note that the peer takes no more for now; one that takes nothing for long is cut off."""
        self._stall = StallWatch(self._socket.unsent, self._limits.stall, self._stalled)
        self._stall.start()

    def drained(self) -> None:
        """Note that the peer has taken most of what was sent."""
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def lost(self) -> None:
        """Note that the link is gone: nothing is left to guard, and nobody to be woken."""
        self._fall_silent(frames.ABNORMAL)
        self._dropped = self._socket.unsent()
        self.drained()
        for timer in (self._guard, self._farewell):
            if timer is not None:
                timer.cancel()
        self._wake = lambda: None

    def _fall_silent(self, code: int) -> None:
        self.code = self.code or code
        self.silent = True

    def _stalled(self) -> None:
        self._fall_silent(frames.TOO_SLOW)
        self._socket.abort()

    def _set_guard(self) -> None:
        self._guard = _later(self._limits.close, self.abort)

    def _wait_no_more(self) -> None:
        self._with_receipt = False
        self.stored = None
        self._wake()

    def _waits(self, complete: bool) -> bool:
        if self._with_receipt and not complete:
            return True
        if self.stored is None or self.stored.done():
            return False
        self.stored.add_done_callback(lambda _: self._wake())
        return True


def _later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, call)
