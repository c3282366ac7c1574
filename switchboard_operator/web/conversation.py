"""One user's socket, seen from the side that reads: whatever comes, until it is closed."""

import asyncio
from typing import Protocol

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.web import keys
from switchboard_operator.web.heartbeat import Heartbeat
from switchboard_operator.web.sockets import AiohttpSocket


class Talk(Protocol):
    """What a client's text frames mean, in its wire format."""

    def take(self, text: str) -> int | None:
        """Take a frame; return the code to close with if the client broke the rules."""

    def take_too_long(self, text: str) -> int | None:
        """Take a frame that is longer than allowed; likewise."""

    def stop(self) -> None:
        """Note that the socket is closed."""


class Conversation:
    """What one socket says: each frame is answered or handed on, none stops the others."""

    def __init__(
        self, app: web.Application, connection: Connection, socket: AiohttpSocket, talk: Talk
    ) -> None:
        """Listen to *socket* on behalf of *connection*; *talk* understands the texts."""
        self._connection = connection
        self._socket = socket
        self._talk = talk
        self._limits = app[keys.LIMITS]
        self._max_bytes = app[keys.SETTINGS].max_message_bytes
        self._rejects = app[keys.METRICS].rejects
        self._uplink = app[keys.UPLINK]
        self._heartbeat = Heartbeat(connection, self._limits)
        self._began = asyncio.get_running_loop().time()
        self._refused = False  # the client broke the rules, so what it still sends is dropped

    async def listen(self) -> None:
        """Take what comes until the socket is closed."""
        taken = 0
        try:
            while self._take(await self._next()):
                taken += 1
                if taken % self._limits.frames_in_turn == 0:
                    await asyncio.sleep(0)  # frames that are there already make nobody else wait
        finally:
            self._heartbeat.stop()
            self._talk.stop()

    async def finish(self) -> None:
        """See to it that a refusal is heard."""
        await self._socket.linger(self._limits.close)

    async def _next(self) -> WSMessage:
        if self._uplink.is_full(self._connection.session):
            with self._heartbeat.suspended():
                await self._uplink.room(self._connection.session, self._began)
        return await self._socket.receive()

    def _take(self, message: WSMessage) -> bool:
        """Deal with a message of the WebSocket; return False if it was the last."""
        self._heartbeat.heard()
        match message.type:
            case WSMsgType.TEXT:
                self._take_text(message.data)
            case WSMsgType.PING:
                self._connection.pong(message.data)
            case WSMsgType.PONG:
                self._connection.ponged(message.data)
            case WSMsgType.BINARY:
                self._refuse(frames.UNSUPPORTED)
            case WSMsgType.CLOSE:
                self._connection.closed_by_peer(frames.echo(message.data))
                return False
            case _:
                self._note_failure(message.data)
                return False
        return True

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
        self._refused = True
        self._rejects.labels(f"close_{code}").inc()
        self._connection.close(code)

    def _note_failure(self, error: object) -> None:
        """Keep the code with which aiohttp has closed a socket that broke the protocol."""
        if isinstance(error, WebSocketError):
            self._socket.keep_link()
            self._connection.closed_by_library(error.code)
