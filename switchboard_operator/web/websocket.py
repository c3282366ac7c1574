"""A WebSocket after its upgrade: frames to and from a transport."""

import asyncio
from collections import deque
from collections.abc import Sequence
from struct import Struct, pack
from typing import Protocol

from aiohttp import WebSocketError, WSMessage, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader

# Frames up to this many times the longest allowed are read to their end, so that the Close frame
# that refuses them is not overtaken by a reset; longer ones are refused by their header alone.
READ_AHEAD = 16
PORTION = 16 * 1024  # bytes parsed before the listener may pause: 256 KiB hold 40,000 tiny frames

_BREACH = WSMsgType.ERROR
_FINAL = 0x80
_SHORT = 126  # bytes; a longer frame has its length in two bytes …
_MEDIUM = 65536  # … or, from here on, in eight
_medium = Struct("!BBH").pack
_long = Struct("!BBQ").pack

Messages = deque[WSMessage]


class Listener(Protocol):
    """Who is told what comes of a socket."""

    def hear(self, messages: Messages) -> None:
        """Take messages of the client; the last of all may be an ERROR, with the code to close."""

    def filled(self) -> None:
        """Note that the client takes no more for now."""

    def drained(self) -> None:
        """Note that it does again."""

    def ended(self) -> None:
        """Note that the client has closed its side of the link."""

    def lost(self) -> None:
        """Note that the link is gone."""


class _Heard(WebSocketDataQueue):
    """
    Where readers put what they have read: whole messages, or the error that ends a reader.

    Since a reader never waits, one serves all sockets: one for each would be as large as all else
    that a socket needs.
    """

    def __init__(self) -> None:
        super().__init__(None, 2**30, loop=asyncio.get_running_loop())  # type: ignore[arg-type] # no protocol is ever paused
        self.messages: Messages = deque()
        self.error: BaseException | None = None

    def feed_data(self, data: object, _size: int) -> None:
        self.messages.append(data)  # type: ignore[arg-type] # it is a WSMessage

    def set_exception(self, exc: BaseException, _cause: object = None) -> None:
        self.error = exc


class FrameReaders:
    """Makes what reads the frames of a socket: aiohttp's compiled reader, without its queues."""

    def __init__(self, max_message_bytes: int) -> None:
        """Read messages somewhat longer than *max_message_bytes*, too, which others refuse."""
        self._max_bytes = READ_AHEAD * max_message_bytes
        self._heard = _Heard()

    def make(self) -> WebSocketReader:
        """Return the reader of one socket; texts are left as bytes."""
        return WebSocketReader(self._heard, self._max_bytes, compress=False, decode_text=False)

    def read(self, reader: WebSocketReader, data: bytes) -> Messages:
        """Return the messages that *data* completes, and one of type ERROR if it is a breach."""
        heard = self._heard
        reader.feed_data(data)
        messages, heard.messages = heard.messages, deque()
        error, heard.error = heard.error, None
        if isinstance(error, WebSocketError):
            messages.append(WSMessage(WSMsgType.ERROR, int(error.code), None))
        elif error is not None:
            raise error
        return messages


class WebSocket(asyncio.Protocol):
    """
    Implements `sockets.Socket`, and tells a listener what comes.

    Nothing is answered here, no ping and no Close frame: what is sent, and when, is a connection's
    to say. Texts arrive as bytes.
    """

    __slots__ = ("_listener", "_paused", "_reader", "_readers", "_transport", "_unread", "full")

    def __init__(self, transport: asyncio.Transport, readers: FrameReaders) -> None:
        """Send on *transport*; read nothing before `start`."""
        self._transport = transport
        self._readers = readers
        self._reader: WebSocketReader | None = readers.make()
        self._listener: Listener
        self._paused = True
        self._unread = b""  # while paused, what has come already: parsed it were 20 times as much
        self.full = False

    def start(self, listener: Listener) -> None:
        """Tell *listener* what comes from now on."""
        self._listener = listener
        self._transport.set_protocol(self)
        self.resume_reading()

    def read(self, early: bytes) -> None:
        """Take what has come *early*, before the start."""
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Pass on the messages in *data*, by and by if the listener wants a pause."""
        if self._paused or len(data) > PORTION:
            self._unread += data
            self._read()
        else:
            self._hear(data)

    def eof_received(self) -> None:
        """Pass on that the client says no more; the transport closes once all is sent."""
        self._listener.ended()

    def pause_writing(self) -> None:
        """Note that enough waits for the kernel."""
        self.full = True
        self._listener.filled()

    def resume_writing(self) -> None:
        """Note that the kernel has taken most of it."""
        self.full = False
        self._listener.drained()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Pass on that the link is gone; what had come already can still be read."""
        self._listener.lost()

    @property
    def unread(self) -> bool:
        """Tell whether something has come that waits for the end of a pause."""
        return bool(self._unread)

    def pause_reading(self) -> None:
        """Leave what comes in the kernel, whose window closes in time."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, first what had come already."""
        if self._paused:
            self._paused = False
            self._read()
            if not self._paused:
                self._transport.resume_reading()

    def forget(self) -> None:
        """Let go of the listener, which holds on to us: the link is gone, and all is read."""
        del self._listener

    def send(self, frames: Sequence[bytes]) -> None:
        """Send text frames, all in one go."""
        self._transport.write(
            b"".join([part for frame in frames for part in (_head(WSMsgType.TEXT, frame), frame)])
        )

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        self._send(WSMsgType.PING, payload)

    def pong(self, payload: bytes) -> None:
        """Send a pong."""
        self._send(WSMsgType.PONG, payload)

    def close(self, code: int) -> None:
        """Send a Close frame; a client that can't be read any more also sees the end of ours."""
        self._send(WSMsgType.CLOSE, pack("!H", code))
        if self._reader is None:
            self._transport.write_eof()

    def release(self) -> None:
        """Close the link once what is unsent has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Drop the link; its descriptor is freed whatever is unsent."""
        self._transport.abort()

    def unsent(self) -> int:
        """Return the number of bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def _read(self) -> None:
        while self._unread and not self._paused:
            portion, self._unread = self._unread[:PORTION], self._unread[PORTION:]
            self._hear(portion)

    def _hear(self, data: bytes) -> None:
        if self._reader is None:  # what comes after a breach of the protocol is dropped
            return
        messages = self._readers.read(self._reader, data)
        if not messages:
            return
        if messages[-1].type is _BREACH:
            self._reader = None
        self._listener.hear(messages)

    def _send(self, opcode: int, payload: bytes) -> None:
        self._transport.write(_head(opcode, payload) + payload)


def _head(opcode: int, payload: bytes) -> bytes:
    """Return what goes before *payload* in a frame that is not masked (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < _SHORT:
        return bytes((_FINAL | opcode, size))
    if size < _MEDIUM:
        return _medium(_FINAL | opcode, 126, size)
    return _long(_FINAL | opcode, 127, size)
