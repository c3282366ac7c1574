"""The WebSocket endpoint: let a user in, and keep the connection until either side closes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import hdrs, web

from switchboard_operator import frames, server_frames_v1
from switchboard_operator.connection import Connection
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.frames import Wire
from switchboard_operator.web import keys
from switchboard_operator.web.classic import ClassicTalk
from switchboard_operator.web.conversation import Conversation, Talk
from switchboard_operator.web.pages import index
from switchboard_operator.web.sockets import AiohttpSocket
from switchboard_operator.web.v1 import V1Talk

_Ready = tuple[Connection, AiohttpSocket, Talk]

log = structlog.get_logger()


async def chat_or_index(request: web.Request) -> web.StreamResponse:
    """Answer `GET /`: an upgrade is a user, anything else a browser that looks around."""
    is_upgrade = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
    if is_upgrade and request.method == hdrs.METH_GET:
        return await chat(request)
    return await index(request)


async def chat(request: web.Request) -> web.StreamResponse:
    """Let a user in, and listen until the socket is closed and all that was said is handed on."""
    if request.app[keys.DRAINING].is_set():
        raise UpgradeRefused("draining", "this instance is shutting down", status=503)
    with request.app[keys.ROOM].taken():
        request.app[keys.ADMISSION].check_origin(request)
        let_in = _let_in_v1 if _speaks_v1(request) else _let_in_classic
        connection, socket, talk = await let_in(request)
        async with _connected(request.app, connection, socket):
            conversation = Conversation(request.app, connection, socket, talk)
            await conversation.listen()
        await conversation.finish()
    return socket.response


def _speaks_v1(request: web.Request) -> bool:
    offers = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
    return any(
        offer.strip() == server_frames_v1.SUBPROTOCOL
        for line in offers
        for offer in line.split(",")
    )


async def _let_in_classic(request: web.Request) -> _Ready:
    """Open the socket of a client that joins its session at once. Raises UpgradeRefused."""
    app, admission = request.app, request.app[keys.ADMISSION]
    session, cookie = await admission.session_of(request)
    socket = AiohttpSocket(app[keys.SETTINGS].max_message_bytes)
    if cookie is not None:
        await admission.set_cookie(request, socket.response, cookie)
    await socket.upgrade(request, app[keys.LIMITS].send_buffer)
    connection = _connection(app, socket, frames.CLASSIC)
    connection.join(session, after=None)
    return connection, socket, ClassicTalk(app, connection)


async def _let_in_v1(request: web.Request) -> _Ready:
    """Open the socket of a client that will say which session it joins. Raises UpgradeRefused."""
    app = request.app
    session = await app[keys.ADMISSION].session_asked(request)
    socket = AiohttpSocket(app[keys.SETTINGS].max_message_bytes, server_frames_v1.SUBPROTOCOL)
    await socket.upgrade(request, app[keys.LIMITS].send_buffer)
    connection = _connection(app, socket, server_frames_v1.V1)
    return connection, socket, V1Talk(app, connection, session)


def _connection(app: web.Application, socket: AiohttpSocket, wire: Wire) -> Connection:
    connection = Connection(socket, wire, app[keys.BROKER].mailbox, app[keys.LIMITS])
    connection.replayed = app[keys.METRICS].replayed
    return connection


@asynccontextmanager
async def _connected(
    app: web.Application, connection: Connection, socket: AiohttpSocket
) -> AsyncIterator[None]:
    """Keep a connection in the table, and its writer at work, within the context."""
    app[keys.CONNECTIONS].add(connection)
    app[keys.METRICS].opens.inc()
    if app[keys.DRAINING].is_set():  # it began while the upgrade was answered
        connection.close(frames.RESTART, receipt=True)
    writer = asyncio.create_task(_write(app, connection))
    try:
        yield
    finally:
        if not connection.closing:
            connection.abort()
        await writer  # which sends our Close frame, if one is due
        socket.release()
        connection.released()
        app[keys.CONNECTIONS].remove(connection)
        app[keys.METRICS].closed(connection.close_code or frames.ABNORMAL)


async def _write(app: web.Application, connection: Connection) -> None:
    """Write until the connection ends; a bug of ours ends it, rather than leave it mute."""
    try:
        await connection.write()
    except Exception:  # the task's owner waits for the reader, so nobody else would see it
        app[keys.METRICS].task_failures.inc()
        log.exception("writer failed")
        connection.abort()
