"""The WebSocket endpoint: let a user in, take what the user says, until either side closes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import WebSocketError, WSMessage, WSMsgType, hdrs, web

from switchboard_operator import frames
from switchboard_operator.connections import Connection
from switchboard_operator.errors import BadFrame, UpgradeRefused
from switchboard_operator.messages import UserMessage, concierge_body
from switchboard_operator.web import keys
from switchboard_operator.web.errors import refusal
from switchboard_operator.web.heartbeat import Heartbeat
from switchboard_operator.web.pages import index
from switchboard_operator.web.parking import Parking
from switchboard_operator.web.sockets import AiohttpSocket

log = structlog.get_logger()


async def chat_or_index(request: web.Request) -> web.StreamResponse:
    """Answer `GET /`: an upgrade is a user, anything else a browser that looks around."""
    if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        return await chat(request)
    return await index(request)


async def chat(request: web.Request) -> web.StreamResponse:
    """Let a user in, and listen until the socket is closed."""
    admission = request.app[keys.ADMISSION]
    try:
        _check_room(request)
        admission.check_origin(request)
        session, cookie = await admission.session_of(request)
    except UpgradeRefused as exc:
        request.app[keys.METRICS].rejects.labels(exc.code).inc()
        return refusal(exc.status, exc.code, exc.detail)
    socket = AiohttpSocket(request.app[keys.SETTINGS].max_message_bytes)
    if cookie is not None:
        await admission.set_cookie(request, socket.response, cookie)
    await socket.upgrade(request)
    async with _connected(request.app, session, socket) as connection:
        conversation = Conversation(request.app, connection, socket)
        await conversation.listen()
    await conversation.finish()
    return socket.response


def _check_room(request: web.Request) -> None:
    if request.app[keys.DRAINING].is_set():
        raise UpgradeRefused("draining", "this instance is shutting down", status=503)
    bound = request.app[keys.SETTINGS].max_connections
    if bound and len(request.app[keys.CONNECTIONS]) >= bound:
        raise UpgradeRefused("full", "this instance has as many connections as it may", status=503)


@asynccontextmanager
async def _connected(
    app: web.Application, session: str, socket: AiohttpSocket
) -> AsyncIterator[Connection]:
    """Keep a connection in the table, and its writer at work, within the context."""
    connection = Connection(session, socket, app[keys.LIMITS])
    app[keys.CONNECTIONS].add(connection)
    app[keys.METRICS].opens.inc()
    if app[keys.DRAINING].is_set():  # it began while the upgrade was answered
        connection.close(frames.RESTART)
    writer = asyncio.create_task(connection.write())
    try:
        yield connection
    finally:
        app[keys.CONNECTIONS].remove(connection)
        await _ended(connection, writer, socket)
        app[keys.METRICS].closed(connection.close_code or frames.ABNORMAL)


async def _ended(connection: Connection, writer: asyncio.Task[None], socket: AiohttpSocket) -> None:
    """Let the writer send our Close frame, if one is due, then let go of the link."""
    if not connection.closing:
        connection.abort()
    await writer
    socket.release()
    connection.released()


class Conversation:
    """What one socket says: each frame is answered or handed on, none stops the others."""

    def __init__(self, app: web.Application, connection: Connection, socket: AiohttpSocket) -> None:
        """Listen to *socket* on behalf of *connection*."""
        self._connection = connection
        self._socket = socket
        self._limits = app[keys.LIMITS]
        self._max_bytes = app[keys.SETTINGS].max_message_bytes
        self._rejects = app[keys.METRICS].rejects
        self._parking = Parking(app[keys.UPLINK], self._limits)
        self._heartbeat = Heartbeat(connection, self._limits)
        self._loop = asyncio.get_running_loop()
        self._refused = False  # the client broke the rules, so what it still sends is dropped

    async def listen(self) -> None:
        """Take what comes until the socket is closed."""
        try:
            while self._take(await self._next()):
                pass
        finally:
            self._heartbeat.stop()

    async def finish(self) -> None:
        """See to it that all that was said is handed on, and that a refusal is heard."""
        await self._parking.emptied()
        await self._socket.linger(self._limits.close)

    async def _next(self) -> WSMessage:
        if self._parking.full:
            with self._heartbeat.suspended():
                await self._parking.room()
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
                self._connection.close(message.data or frames.NORMAL, discard=True)
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
        self._parking.put(UserMessage(session, uuid.uuid4().hex, body, self._loop.time()))

    def _refuse(self, code: int) -> None:
        self._refused = True
        self._rejects.labels(f"close_{code}").inc()
        self._connection.close(code)

    def _note_failure(self, error: object) -> None:
        """Keep the code with which aiohttp has closed a socket that broke the protocol."""
        if isinstance(error, WebSocketError):
            self._socket.keep_link()
            self._connection.closed_by_library(error.code)
