"""One user's socket, seen from the side that writes: its place in the session, and what waits."""

import asyncio
from collections.abc import Callable

from switchboard_operator import frames
from switchboard_operator.ending import Ending
from switchboard_operator.frames import Wire
from switchboard_operator.limits import KIB, Limits
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery
from switchboard_operator.outbox import Outbox
from switchboard_operator.receipts import Receipts
from switchboard_operator.replay import Greet, Mailbox, Replay
from switchboard_operator.sockets import Socket

AT_ONCE = 64 * KIB  # bytes; then the peer's side is looked at again


class Connection:
    """
    One user's socket, seen from the side that writes to it.

    Anybody may put something on its line. While the peer takes it, it is sent at once; else it
    waits there, in order, and nobody ever waits for a client. When the line is full, or something
    is missing on it, what comes next is read from the mailbox. Once the connection is closing it
    takes no more frames.
    """

    __slots__ = (
        "_ending",
        "_loop",
        "_mailbox",
        "_outbox",
        "_ping_due",
        "_pong",
        "_replay",
        "_sending",
        "_socket",
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
        self.receipts = Receipts()
        self.replayed: Callable[[int, int], None] = (
            _ignore  # told what a page brought, what is lost
        )
        self.delivered: Callable[[], None] = _ignore  # told when a postback was written
        # Told of a bug, which ends it.
        self.failed: Callable[[Connection, Exception], None] = _ignore
        self._socket = socket
        self._mailbox = mailbox
        self._loop = asyncio.get_running_loop()
        self.heard_at = self.sent_at = self._loop.time()  # the peer's last sign of life; our frame
        self._outbox = Outbox(limits.outbox_frames, limits.outbox_bytes)
        self._ping_due = False
        self._pong: bytes | None = None
        self._sending = False
        wake = self._wake
        self._replay = Replay(mailbox, self._outbox, wire, wake)
        self._ending = Ending(socket, limits, wake)

    @property
    def close_code(self) -> int | None:
        """Return the code that it closes with: ours, or the peer's if it closed first."""
        return self._ending.code or None

    @property
    def closing(self) -> bool:
        """Tell whether a Close frame was sent, received or is about to be sent."""
        return self._ending.code != 0

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
        if after is not None:
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
        if self._ending.code or not self._replay.joined:
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
            if discard:
                self._outbox.clear()
            self._ending.begin(code, receipt=receipt)
            self._wake()

    def closed_by_peer(self, code: int) -> None:
        """
        Take the peer's Close frame, its last: it answers ours, or ours will answer it.

        It has all that was written before, unless that has not even left us.
        """
        if not self.closing:
            self._outbox.clear()
        arrived = self._ending.closed_by_peer(code)
        self._prove(self.receipts.all_arrived() if arrived else None)

    def abort(self) -> None:
        """Drop the link at once: the peer is gone or takes nothing."""
        self._ending.abort()

    def ended_by_peer(self) -> None:
        """Note that the peer has closed its side: what is unsent has a while to arrive."""
        self._ending.ended_by_peer()

    def filled(self) -> None:
        """Note that the peer takes no more for now; one that takes nothing for long is cut off."""
        self._ending.filled()

    def drained(self) -> None:
        """Note that the peer has taken most of what was sent, so that there is room again."""
        self._ending.drained()
        self._wake()

    def lost(self) -> None:
        """
        Note that the link is gone, so that nothing is left to guard or to read.

        Nothing of ours leads back here then: else only the garbage collector would free it.
        """
        self._ending.lost()
        self._replay.stop()
        self.delivered = _ignore

    def _put(self, frame: bytes, *, times: int) -> bool:
        """Put *frame* on the line; a client too slow for that is closed: nobody waits for it."""
        if self._ending.code:
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
            self._ending.stored = self._mailbox.prove(self.session, mark, urgent=self.closing)
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
        if self._ending.silent or self._socket.full:
            return False
        if self._pong is not None:
            payload, self._pong = self._pong, None
            self._socket.pong(payload)
        elif self._ping_due:
            self._send_ping()
        elif self._outbox:
            self._send_frames()
        elif self._ending.code:
            self._ping_due = self._ending.finish(complete=self.receipts.complete)
            return self._ping_due
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


def _ignore(*_: object) -> None:
    """Tell nobody."""
