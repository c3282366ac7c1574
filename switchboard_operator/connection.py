"""One user's socket, seen from the side that writes: its place in the session, and a writer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from switchboard_operator import frames
from switchboard_operator.frames import Wire
from switchboard_operator.limits import Limits
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery
from switchboard_operator.outbox import Outbox
from switchboard_operator.receipts import Receipts
from switchboard_operator.replay import Greet, Mailbox, Replay
from switchboard_operator.stall_watch import StallWatch


class Socket(Protocol):
    """What a connection needs of a WebSocket; its one writer alone calls the coroutines."""

    async def send(self, frame: bytes) -> None:
        """Send a text frame; wait while the peer's buffers are full. Raises ConnectionError."""

    async def ping(self, payload: bytes) -> None:
        """Send a ping. Raises ConnectionError."""

    async def pong(self, payload: bytes) -> None:
        """Send a pong. Raises ConnectionError."""

    async def close(self, code: int) -> None:
        """Send a Close frame. Raises ConnectionError."""

    def abort(self) -> None:
        """Drop the link at once, whatever is unsent."""

    def unsent(self) -> int:
        """Return the number of bytes that the peer has not taken from us."""


class Connection:
    """
    One user's socket, seen from the side that writes to it.

    Anybody may put something on its line; a single writer sends it in order, so that nobody ever
    waits for a client or is cancelled in the middle of a frame. When the line is full, or something
    is missing on it, the writer reads what comes next from the mailbox. Once the connection is
    closing it takes no more frames.
    """

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
        self._socket = socket
        self._mailbox = mailbox
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.heard_at = self.sent_at = self._loop.time()  # the peer's last sign of life; our frame
        self._outbox = Outbox(limits.outbox_frames, limits.outbox_bytes)
        self._stored: asyncio.Future[None] | None = None  # the last thing proven
        self._ping_due = False
        self._pong: bytes | None = None
        self._sent = 0  # frames, as a measure of progress
        self._closes_with_receipt = self._close_sent = self._gone = False
        self._wake = asyncio.Event()
        self._replay = Replay(mailbox, self._outbox, wire, self._wake.set)
        self._guard: asyncio.TimerHandle | None = None

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
        """Put a postback on the line; return whether it is sent now, not read later."""
        if self.closing or not self._replay.joined:
            return False
        if delivery.mark is None:
            return self._put(self.wire.message(delivery.body, None), times=1)
        return self._replay.take(delivery.mark, delivery.body)

    def offer(self, frame: bytes) -> bool:
        """Put a frame that is no postback on the line; return False if it is closing."""
        return self._put(frame, times=2)  # so that postbacks alone leave room for answers

    def fall_behind(self) -> None:
        """Look in the mailbox for what may have gone unheard."""
        self._replay.fall_behind()

    def ping(self) -> None:
        """Ask the peer for a sign of life and a receipt, ahead of the frames that wait."""
        self._ping_due = True
        self._wake.set()

    def pong(self, payload: bytes) -> None:
        """Answer the peer's latest ping (RFC 6455, 5.5.3), ahead of the frames that wait."""
        self._pong = payload
        self._wake.set()

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
        if self.closing:
            return
        self.close_code = code
        self._closes_with_receipt = receipt
        if discard:
            self._outbox.clear()
        self._guard = self._loop.call_later(self._limits.close, self.abort)
        self._wake.set()

    def closed_by_peer(self, code: int) -> None:
        """
        Take the peer's Close frame: it answers ours, or ours will answer it.

        It has all that was written before, unless that has not even left us.
        """
        if self._close_sent or not self._socket.unsent():
            self._prove(self.receipts.all_arrived(), urgent=True)
        self._closes_with_receipt = False
        self.close(code, discard=True)
        self._wake.set()

    def abort(self) -> None:
        """Drop the link at once: the peer is gone or takes nothing."""
        if self.close_code is None:
            self.close_code = frames.ABNORMAL
        self._gone = True
        self._wake.set()
        self._socket.abort()

    def closed_by_library(self, code: int) -> None:
        """Note that the library has sent a Close frame with *code* and closed the link."""
        self.close_code = code
        self._gone = True
        self._wake.set()

    def released(self) -> None:
        """Note that the link is gone, so that nothing is left to guard or to read."""
        if self._guard is not None and not self._socket.unsent():
            self._guard.cancel()
        self._replay.stop()

    async def write(self) -> None:
        """Send what is put on the line, until a Close frame is sent or the link is gone."""
        try:
            while not self._gone and not await self._flush():
                if not self._catch_up():
                    await self._wake.wait()
        except ConnectionError:  # the reader is told too, but may be a while behind
            self.close_code = self.close_code or frames.ABNORMAL

    def _put(self, frame: bytes, *, times: int) -> bool:
        """Put *frame* on the line; a client too slow for that is closed: nobody waits for it."""
        if self.closing:
            return False
        if not self._outbox.has_room(len(frame), beside=self._replay.held, times=times):
            self.close(frames.TOO_SLOW, discard=True)
            return False
        if not self._replay.holds(frame):
            self._outbox.put(frame)
        self._wake.set()
        return True

    def _catch_up(self) -> bool:
        """Read what was missed, once all before it has been sent; return whether a page came."""
        caught_up = self._replay.catch_up()
        if caught_up is None:
            return False
        self.replayed(*caught_up)
        return True

    def _prove(self, mark: Mark | None, *, urgent: bool = False) -> None:
        if mark is not None:
            urgent = urgent or self.closing
            self._stored = self._mailbox.prove(self.session, mark, urgent=urgent)
        self._wake.set()

    async def _flush(self) -> bool:
        """Send all there is; return True if it ended with our Close frame."""
        self._wake.clear()
        with StallWatch(self._progress, self._limits.stall, self._stalled):
            while self._ping_due or self._pong is not None or self._outbox:
                await self._send_next()
        if self.close_code is not None:
            await self._end(self.close_code)
        return self.closing

    async def _send_next(self) -> None:
        self._sent += 1
        if self._pong is not None:
            payload, self._pong = self._pong, None
            await self._socket.pong(payload)
        elif self._ping_due:
            await self._send_ping()
        else:
            frame, mark = self._outbox.pop()
            if mark is not None:  # it counts as written while its last bytes wait for room
                self.receipts.written = mark
            await self._socket.send(frame)
            self.sent_at = self._loop.time()
            if mark is not None:
                self.delivered()

    async def _send_ping(self) -> None:
        await self._socket.ping(self.receipts.payload)
        self._ping_due = False
        self.receipts.pinged(self._loop.time())

    async def _end(self, code: int) -> None:
        """Send the Close frame, once what the client has is known as well as can be."""
        with StallWatch(self._progress, self._limits.stall, self._stalled):
            if self._closes_with_receipt and not self.receipts.complete:
                await self._send_ping()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.last_receipt):
                await self._last_receipt()
        if self._gone:
            return
        self._close_sent = True
        with StallWatch(self._progress, self._limits.stall, self._stalled):
            await self._socket.close(code)

    async def _last_receipt(self) -> None:
        while self._closes_with_receipt and not self.receipts.complete and not self._gone:
            self._wake.clear()
            await self._wake.wait()
        if self._stored is not None:
            await asyncio.shield(self._stored)

    def _progress(self) -> tuple[int, int]:
        return self._sent, self._socket.unsent()

    def _stalled(self) -> None:
        self.close_code = self.close_code or frames.TOO_SLOW
        self.abort()


def _ignore(*_: int) -> None:
    """Tell nobody."""
