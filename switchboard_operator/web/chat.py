"""The WebSocket endpoint: let a user in, and keep the connection until either side closes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import hdrs, web

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.web import keys
from switchboard_operator.web.conversation import Conversation
from switchboard_operator.web.pages import index
from switchboard_operator.web.sockets import AiohttpSocket

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
        session, socket = await _admitted(request)
        async with _connected(request.app, session, socket) as connection:
            conversation = Conversation(request.app, connection, socket)
            await conversation.listen()
        await conversation.finish()
    return socket.response


async def _admitted(request: web.Request) -> tuple[str, AiohttpSocket]:
    """Return the user's session and the open socket. Raises UpgradeRefused."""
    admission = request.app[keys.ADMISSION]
    admission.check_origin(request)
    session, cookie = await admission.session_of(request)
    socket = AiohttpSocket(request.app[keys.SETTINGS].max_message_bytes)
    if cookie is not None:
        await admission.set_cookie(request, socket.response, cookie)
    await socket.upgrade(request)
    return session, socket


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
    writer = asyncio.create_task(_write(app, connection))
    try:
        yield connection
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
