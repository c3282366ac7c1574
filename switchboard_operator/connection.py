"""One user's socket, seen from the side that writes: an outbox and a writer."""

import asyncio
from collections import deque
from typing import Protocol

from switchboard_operator import frames
from switchboard_operator.limits import Limits

STALL_CHECKS = 5  # times that a client's progress is looked at before it counts as stalled


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
    waits for a client or is cancelled in the middle of a frame. Once it is closing it takes no more
    frames.
    """

    def __init__(self, session: str, socket: Socket, limits: Limits) -> None:
        """Write to *socket* on behalf of *session*, within *limits*."""
        self.session = session
        self.close_code: int | None = None  # ours, or the peer's if it closed first
        self.heard_at = asyncio.get_running_loop().time()  # the peer's last sign of life
        self._socket = socket
        self._limits = limits
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self.pinged_at = 0.0  # the loop's time when the last ping was sent
        self._ping: bytes | None = None
        self._pong: bytes | None = None
        self._sent = 0  # frames, as a measure of progress
        self._gone = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle
        self._guard: asyncio.TimerHandle | None = None

    @property
    def closing(self) -> bool:
        """Tell whether a Close frame was sent, received or is about to be sent."""
        return self.close_code is not None

    def offer(self, frame: bytes) -> bool:
        """
        Put a text frame on the line; return False if the connection is closing.

        A client whose outbox is full is too slow for us and is closed: nobody else waits for it.
        """
        if self.closing:
            return False
        if self._outbox and self._is_full(len(frame)):
            self.close(frames.TOO_SLOW, discard=True)
            return False
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        self._wake.set()
        return True

    @property
    def waiting(self) -> int:
        """Return the number of frames in the outbox."""
        return len(self._outbox)

    def ping(self, payload: bytes) -> None:
        """Ask the peer for a sign of life, ahead of the frames that wait."""
        self._ping = payload
        self._wake.set()

    @property
    def ping_waits(self) -> bool:
        """Tell whether a ping is still waiting for the peer to take what was sent before."""
        return self._ping is not None

    def pong(self, payload: bytes) -> None:
        """Answer the peer's latest ping (RFC 6455, 5.5.3), ahead of the frames that wait."""
        self._pong = payload
        self._wake.set()

    def close(self, code: int, *, discard: bool = False) -> None:
        """
        Send what waits (or *discard* it), then a Close frame; the first call counts.

        A peer that has not let go of the link when the time for it is up is cut off.
        """
        if self.closing:
            return
        self.close_code = code
        if discard:
            self._outbox.clear()
            self._outbox_bytes = 0
        self._guard = self._loop.call_later(self._limits.close, self.abort)
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
        """Note that the link is gone, so that nothing is left to guard."""
        if self._guard is not None and not self._socket.unsent():
            self._guard.cancel()

    async def write(self) -> None:
        """Send what is put on the line, until a Close frame is sent or the link is gone."""
        try:
            while not self._gone and not await self._flush():
                await self._wake.wait()
        except ConnectionError:  # the reader is told too, but may be a while behind
            self.close_code = self.close_code or frames.ABNORMAL

    def _is_full(self, size: int) -> bool:
        frames_full = len(self._outbox) >= self._limits.outbox_frames
        return frames_full or self._outbox_bytes + size > self._limits.outbox_bytes

    async def _flush(self) -> bool:
        """Send all there is; return True if it ended with our Close frame."""
        self._wake.clear()
        self._watch_progress()
        try:
            while self._ping is not None or self._pong is not None or self._outbox:
                await self._send_next()
                self._sent += 1
            if self.close_code is not None:
                await self._socket.close(self.close_code)
        finally:
            self._watch.cancel()
        return self.closing

    async def _send_next(self) -> None:
        if self._pong is not None:
            payload, self._pong = self._pong, None
            await self._socket.pong(payload)
        elif self._ping is not None:
            payload, self._ping = self._ping, None
            await self._socket.ping(payload)
            self.pinged_at = self._loop.time()
        else:
            frame = self._outbox.popleft()
            self._outbox_bytes -= len(frame)
            await self._socket.send(frame)

    def _watch_progress(self, seen: tuple[int, int] | None = None, since: float = 0.0) -> None:
        """Cut the peer off if it has taken nothing *since* so long; look again a little later."""
        now, progress = self._loop.time(), (self._sent, self._socket.unsent())
        if progress != seen:
            since = now
        elif now - since >= self._limits.stall:
            self.close_code = self.close_code or frames.TOO_SLOW
            self.abort()
            return
        pause = self._limits.stall / STALL_CHECKS
        self._watch = self._loop.call_later(pause, self._watch_progress, progress, since)
