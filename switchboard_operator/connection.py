"""One user's socket, seen from the side that writes: its place in the session, and what waits."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from switchboard_operator import frames
from switchboard_operator.frames import Wire
from switchboard_operator.limits import KIB, Limits
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery
from switchboard_operator.outbox import Outbox
from switchboard_operator.receipts import Receipts
from switchboard_operator.replay import Greet, Mailbox, Replay
from switchboard_operator.stall_watch import StallWatch

AT_ONCE = 64 * KIB  # bytes; then the peer's side is looked at again


class Socket(Protocol):
    """What a connection needs of a WebSocket; nothing here waits."""

    @property
    def full(self) -> bool:
        """Tell whether nothing more should be sent until the peer has taken some."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Send text frames."""

    def ping(self, payload: bytes) -> None:
        """Send a ping."""

    def pong(self, payload: bytes) -> None:
        """Send a pong."""

    def close(self, code: int) -> None:
        """Send a Close frame."""

    def release(self) -> None:
        """Let go of the link once what is unsent has been sent."""

    def abort(self) -> None:
        """Drop the link at once, whatever is unsent."""

    def unsent(self) -> int:
        """Return the number of bytes that the peer has not taken from us."""


class Connection:
    """
    One user's socket, seen from the side that writes to it.

    Anybody may put something on its line. While the peer takes it, it is sent at once; else it
    waits there, in order, and nobody ever waits for a client. When the line is full, or something
    is missing on it, what comes next is read from the mailbox. Once the connection is closing it
    takes no more frames.
    """

    __slots__ = (
        "_close_sent",
        "_closes_with_receipt",
        "_dropped",
        "_farewell",
        "_gone",
        "_guard",
        "_limits",
        "_loop",
        "_mailbox",
        "_outbox",
        "_peer_closed",
        "_ping_due",
        "_pong",
        "_replay",
        "_sending",
        "_socket",
        "_stall",
        "_stored",
        "close_code",
        "delivered",
        "failed",
        "heard_at",
        "receipts",
        "replayed",
        "sent_at",
        "session",
        "wire",
    )

    def __init__(self, socket: Socket, wire: Wire, mailbox: Mailbox, limits: Limits) -> None:
        """Write to *socket* in the format of *wire*, within *limits*; read from *mailbox*."""
        self.session = ""  # until it joins one
        self.wire = wire
        self.close_code: int | None = None  # ours, or the peer's if it closed first
        self.receipts = Receipts()
        self.replayed: Callable[[int, int], None] = (
            _ignore  # told what a page brought, what is lost
        )
        self.delivered: Callable[[], None] = _ignore  # told when a postback was written
        # Told of a bug, which ends it.
        self.failed: Callable[[Connection, Exception], None] = _ignore
        self._socket = socket
        self._mailbox = mailbox
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.heard_at = self.sent_at = self._loop.time()  # the peer's last sign of life; our frame
        self._outbox = Outbox(limits.outbox_frames, limits.outbox_bytes)
        self._stored: asyncio.Future[None] | None = None  # the last thing proven
        self._ping_due = False
        self._pong: bytes | None = None
        self._sending = False
        self._closes_with_receipt = self._close_sent = self._peer_closed = self._gone = False
        self._dropped = 0  # bytes that had not left us when the link was lost
        self._replay = Replay(mailbox, self._outbox, wire, self._wake)
        self._stall: StallWatch | None = None  # while the peer has yet to take something
        self._guard: asyncio.TimerHandle | None = None  # of a peer that does not let go
        self._farewell: asyncio.TimerHandle | None = None  # the end of the wait for a receipt

    @property
    def closing(self) -> bool:
        """Tell whether a Close frame was sent, received or is about to be sent."""
        return self.close_code is not None

    @property
    def waiting(self) -> int:
        """Return the number of frames in the outbox."""
        return len(self._outbox)

    @property
    def ping_waits(self) -> bool:
        """Tell whether a ping is still waiting for the peer to take what was sent before."""
        return self._ping_due

    def join(self, session: str, after: Mark | None, greet: Greet | None = None) -> None:
        """
        Begin to receive what *session* is sent, *after* a mark or from its cursor on.

        *greet* makes the frame that goes before all of it, out of the first page.
        """
        self.session = session
        self._replay.join(session, after, greet)
        self._prove(after)

    def greet_without_page(self) -> None:
        """Greet now, if the mailbox has not answered yet."""
        if not self.closing:
            self._replay.greet_without_page()

    def deliver(self, delivery: Delivery) -> bool:
        """
        Put a postback on the line; return whether it is sent by `flush`, not read later.

        Of several that come together, each is put there first: they are written as one.
        """
        if self.closing or not self._replay.joined:
            return False
        if delivery.mark is None:
            return self._put(self.wire.message(delivery.body, None), times=1)
        return self._replay.take(delivery.mark, delivery.body)

    def flush(self) -> None:
        """Send what was delivered."""
        self._wake()

    def offer(self, frame: bytes) -> bool:
        """Put a frame that is no postback on the line; return False if it is closing."""
        return self._put(frame, times=2)  # so that postbacks alone leave room for answers

    def fall_behind(self) -> None:
        """Look in the mailbox for what may have gone unheard."""
        self._replay.fall_behind()

    def ping(self) -> None:
        """Ask the peer for a sign of life and a receipt, ahead of the frames that wait."""
        self._ping_due = True
        self._wake()

    def pong(self, payload: bytes) -> None:
        """Answer the peer's latest ping (RFC 6455, 5.5.3), ahead of the frames that wait."""
        self._pong = payload
        self._wake()

    def ponged(self, payload: bytes) -> None:
        """Take the peer's answer to a ping of ours."""
        self._prove(self.receipts.pong(payload, self._loop.time()))

    def close(self, code: int, *, discard: bool = False, receipt: bool = False) -> None:
        """
        Send what waits (or *discard* it), then a Close frame; the first call counts.

        With *receipt* the peer gets a moment to prove what it has before it is sent away, so that
        it is not sent that again. A peer that has not let go of the link when the time for it is up
        is cut off.
        """
        if not self.closing:
            self._begin_to_close(code, discard=discard)
            self._closes_with_receipt = receipt
            self._wake()

    def closed_by_peer(self, code: int) -> None:
        """
        Take the peer's Close frame, its last: it answers ours, or ours will answer it.

        It has all that was written before, unless that has not even left us.
        """
        if self._peer_closed:
            return
        all_arrived = not (self._dropped or self._socket.unsent())
        self._peer_closed = True
        self._closes_with_receipt = False
        if not self.closing:  # before anything is proven, which would have more sent
            self._begin_to_close(code, discard=True)
        if all_arrived:
            self._prove(self.receipts.all_arrived())
        if self._close_sent:
            self._socket.release()
        self._wake()

    def abort(self) -> None:
        """Drop the link at once: the peer is gone or takes nothing."""
        if self.close_code is None:
            self.close_code = frames.ABNORMAL
        self._gone = True
        self._socket.abort()

    def ended_by_peer(self) -> None:
        """Note that the peer has closed its side: what is unsent has a while to arrive."""
        if self.close_code is None:
            self.close_code = frames.ABNORMAL
        self._gone = True
        if self._guard is None:
            self._guard = self._loop.call_later(self._limits.close, self.abort)

    def filled(self) -> None:
        """Note that the peer takes no more for now; one that takes nothing for long is cut off."""
        self._stall = StallWatch(self._socket.unsent, self._limits.stall, self._stalled)
        self._stall.start()

    def drained(self) -> None:
        """Note that the peer has taken most of what was sent, so that there is room again."""
        self._stop_watching()
        self._wake()

    def lost(self) -> None:
        """
        Note that the link is gone, so that nothing is left to guard or to read.

        Nothing of ours leads back here then: else only the garbage collector would free it.
        """
        if self.close_code is None:
            self.close_code = frames.ABNORMAL
        self._gone = True
        self._dropped = self._socket.unsent()
        self.delivered = _ignore
        self._stop_watching()
        for timer in (self._guard, self._farewell):
            if timer is not None:
                timer.cancel()
        self._replay.stop()
        self._replay = Replay(self._mailbox, self._outbox, self.wire, _ignore)

    def _begin_to_close(self, code: int, *, discard: bool) -> None:
        self.close_code = code
        if discard:
            self._outbox.clear()
        self._guard = self._loop.call_later(self._limits.close, self.abort)

    def _put(self, frame: bytes, *, times: int) -> bool:
        """Put *frame* on the line; a client too slow for that is closed: nobody waits for it."""
        if self.closing:
            return False
        if not self._outbox.has_room(len(frame), beside=self._replay.held, times=times):
            self.close(frames.TOO_SLOW, discard=True)
            return False
        if not self._replay.holds(frame):
            self._outbox.put(frame)
        self._wake()
        return True

    def _prove(self, mark: Mark | None) -> None:
        if mark is not None:
            self._stored = self._mailbox.prove(self.session, mark, urgent=self.closing)
        self._wake()

    def _wake(self) -> None:
        """Send all that can be sent now. A bug of ours ends the connection: else it were mute."""
        if self._sending:  # what calls us from in there will find its turn
            return
        self._sending = True
        try:
            while self._advance():
                pass
        except Exception as exc:  # whoever put something on the line is not to suffer for it
            self.abort()
            self.failed(self, exc)
        finally:
            self._sending = False

    def _advance(self) -> bool:
        """Do what is next, if it can be done now; return whether it was."""
        if self._gone or self._close_sent or self._socket.full:
            return False
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self._socket.pong(payload)
        elif self._ping_due:
            self._send_ping()
        elif self._outbox:
            self._send_frames()
        elif self.close_code is not None:
            return self._end(self.close_code)
        else:
            return self._catch_up()
        return True

    def _send_frames(self) -> None:
        waiting, mark = self._outbox.take(AT_ONCE)
        if mark is not None:
            self.receipts.written = mark
        self._socket.send(waiting)
        self.sent_at = self._loop.time()
        if mark is not None:
            self.delivered()

    def _send_ping(self) -> None:
        self._socket.ping(self.receipts.payload)
        self._ping_due = False
        self.receipts.pinged(self._loop.time())

    def _catch_up(self) -> bool:
        """Read what was missed, once all before it has been sent; return whether a page came."""
        caught_up = self._replay.catch_up()
        if caught_up is None:
            return False
        self.replayed(*caught_up)
        return True

    def _end(self, code: int) -> bool:
        """
        Send the Close frame, once what the client has is known as well as can be.

        Returns whether something else is to be sent before.
        """
        if self._farewell is None:
            self._farewell = self._loop.call_later(self._limits.last_receipt, self._wait_no_more)
            self._ping_due = self._closes_with_receipt and not self.receipts.complete
            if self._ping_due:
                return True
        if not self._awaits_receipt():
            self._close_sent = True
            self._farewell.cancel()
            self._socket.close(code)
            if self._peer_closed:
                self._socket.release()
        return False

    def _wait_no_more(self) -> None:
        self._closes_with_receipt = False
        self._stored = None
        self._wake()

    def _awaits_receipt(self) -> bool:
        if self._closes_with_receipt and not self.receipts.complete:
            return True
        if self._stored is None or self._stored.done():
            return False
        self._stored.add_done_callback(lambda _: self._wake())
        return True

    def _stop_watching(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _stalled(self) -> None:
        self.close_code = self.close_code or frames.TOO_SLOW
        self.abort()


def _ignore(*_: object) -> None:
    """Tell nobody."""
