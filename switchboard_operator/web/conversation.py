"""One user's socket, seen from the side that reads: whatever comes, until the link is gone."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import WSMessage, WSMsgType, web

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.web import keys
from switchboard_operator.web.heartbeat import Heartbeat
from switchboard_operator.web.websocket import Messages, WebSocket


class Talk(Protocol):
    """What a client's text frames mean, in its wire format."""

    def take(self, text: str) -> int | None:
        """Take a frame; return the code to close with if the client broke the rules."""

    def take_too_long(self, text: str) -> int | None:
        """Take a frame that is longer than allowed; likewise."""

    def stop(self) -> None:
        """Note that the socket is closed."""


class Conversation:
    """
    What one socket says: each frame is answered or handed on, none stops the others.

    Implements `websocket.Listener`. It lives until the link is gone and all that was said is handed
    on; then *over* is called.
    """

    __slots__ = (
        "_began",
        "_connection",
        "_ending",
        "_heartbeat",
        "_limits",
        "_loop",
        "_max_bytes",
        "_metrics",
        "_over",
        "_refused",
        "_socket",
        "_talk",
        "_unheard",
        "_uplink",
    )

    def __init__(
        self,
        app: web.Application,
        connection: Connection,
        socket: WebSocket,
        talk: Talk,
        over: Callable[[], None],
    ) -> None:
        """Listen to *socket* on behalf of *connection*; *talk* understands the texts."""
        self._connection = connection
        self._socket = socket
        self._talk = talk
        self._over = over
        self._limits = app[keys.LIMITS]
        self._max_bytes = app[keys.SETTINGS].max_message_bytes
        self._metrics = app[keys.METRICS]
        self._uplink = app[keys.UPLINK]
        self._heartbeat = Heartbeat(connection, self._limits)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._refused = False  # the client broke the rules, so what it still sends is dropped
        self._ending = False  # the link is lost, but not all that was said is handed on
        self._unheard: Messages | None = None  # while some wait for their turn, or for room

    def hear(self, messages: Messages) -> None:
        """Take *messages*, or let them wait behind those that do."""
        self._heartbeat.heard()
        if self._unheard is None:
            self._unheard = messages
            self._go_on()
        else:
            self._unheard.extend(messages)

    def filled(self) -> None:
        """Pass on that the client takes no more for now."""
        self._connection.filled()

    def drained(self) -> None:
        """Pass on that it does again."""
        self._connection.drained()

    def ended(self) -> None:
        """Pass on that the client has closed its side of the link."""
        self._connection.ended_by_peer()

    def lost(self) -> None:
        """Note that the link is gone."""
        self._ending = True
        self._heartbeat.stop()
        self._talk.stop()
        self._connection.lost()
        self._end_if_all_is_taken()

    def _go_on(self) -> None:
        """Take what waits, while there is room; frames that are there make nobody else wait."""
        waiting = self._unheard
        for _ in range(self._limits.frames_in_turn):
            if not waiting:
                self._rest()
                return
            if self._uplink.is_full(self._connection.session):
                self._wait_for_room()
                return
            try:
                self._take(waiting.popleft())
            except Exception as exc:  # a bug: it ends this socket and is not passed over
                self._connection.failed(self._connection, exc)
                self._connection.abort()
        self._socket.pause_reading()
        self._loop.call_soon(self._go_on)

    def _rest(self) -> None:
        """Read on: all that was read is taken."""
        self._unheard = None
        self._socket.resume_reading()
        self._end_if_all_is_taken()

    def _end_if_all_is_taken(self) -> None:
        """Be over, and leave no cycle to the garbage collector."""
        if self._ending and self._unheard is None and not self._socket.unread:
            self._ending = False
            self._socket.forget()
            self._over()

    def _wait_for_room(self) -> None:
        self._socket.pause_reading()
        self._heartbeat.suspend()
        self._uplink.when_room(self._connection.session, self._began, self._find_room)

    def _find_room(self) -> None:
        self._heartbeat.resume()
        self._go_on()

    def _take(self, message: WSMessage) -> None:
        match message.type:
            case WSMsgType.TEXT:
                self._take_text(message.data)
            case WSMsgType.PING:
                self._connection.pong(message.data)
            case WSMsgType.PONG:
                self._connection.ponged(message.data)
            case WSMsgType.CLOSE:
                self._refused = True  # nothing counts after it
                self._connection.closed_by_peer(frames.echo(message.data))
            case kind:
                self._refuse(frames.UNSUPPORTED if kind is WSMsgType.BINARY else message.data)

    def _take_text(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            if len(data) > self._max_bytes:
                code = self._talk.take_too_long(data.decode(errors="replace"))
            else:
                code = self._talk.take(data.decode())
        except UnicodeDecodeError:
            code = frames.INVALID_TEXT
        if code is not None:
            self._refuse(code)

    def _refuse(self, code: int) -> None:
        if self._refused:
            return
        self._refused = True
        self._metrics.rejects.labels(f"close_{code}").inc()
        self._connection.close(code)
