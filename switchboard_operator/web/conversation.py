"""One user's socket, seen from the side that reads: what each frame means."""

import asyncio
import uuid

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.errors import BadFrame
from switchboard_operator.messages import UserMessage, concierge_body
from switchboard_operator.web import keys
from switchboard_operator.web.heartbeat import Heartbeat
from switchboard_operator.web.sockets import AiohttpSocket


class Conversation:
    """What one socket says: each frame is answered or handed on, none stops the others."""

    def __init__(self, app: web.Application, connection: Connection, socket: AiohttpSocket) -> None:
        """Listen to *socket* on behalf of *connection*."""
        self._connection = connection
        self._socket = socket
        self._limits = app[keys.LIMITS]
        self._max_bytes = app[keys.SETTINGS].max_message_bytes
        self._rejects = app[keys.METRICS].rejects
        self._uplink = app[keys.UPLINK]
        self._heartbeat = Heartbeat(connection, self._limits)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
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
        self._heartbeat.heard(pong=message.type is WSMsgType.PONG)
        match message.type:
            case WSMsgType.TEXT:
                self._take_text(message.data)
            case WSMsgType.PING:
                self._connection.pong(message.data)
            case WSMsgType.PONG:
                pass
            case WSMsgType.BINARY:
                self._refuse(frames.UNSUPPORTED)
            case WSMsgType.CLOSE:
                self._connection.close(frames.echo(message.data), discard=True)
                return False
            case _:
                self._note_failure(message.data)
                return False
        return True

    def _take_text(self, data: bytes) -> None:
        if self._refused:
            return
        if len(data) > self._max_bytes:
            self._refuse(frames.TOO_BIG)
            return
        try:
            self._say(frames.parse(data.decode()))
        except UnicodeDecodeError:
            self._refuse(frames.INVALID_TEXT)
        except BadFrame as exc:
            self._rejects.labels("bad_frame").inc()
            self._connection.offer(frames.bad_frame(exc.detail))

    def _say(self, frame: frames.UserFrame) -> None:
        session = self._connection.session
        body = concierge_body(session, frame.message, frame.payload)
        self._uplink.put(UserMessage(session, uuid.uuid4().hex, body, self._loop.time()))

    def _refuse(self, code: int) -> None:
        self._refused = True
        self._rejects.labels(f"close_{code}").inc()
        self._connection.close(code)

    def _note_failure(self, error: object) -> None:
        """Keep the code with which aiohttp has closed a socket that broke the protocol."""
        if isinstance(error, WebSocketError):
            self._socket.keep_link()
            self._connection.closed_by_library(error.code)
