"""The WebSocket endpoint: let a user in, and keep the connection until either side closes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.web import keys
from switchboard_operator.web.conversation import Conversation
from switchboard_operator.web.errors import refusal
from switchboard_operator.web.pages import index
from switchboard_operator.web.sockets import AiohttpSocket


async def chat_or_index(request: web.Request) -> web.StreamResponse:
    """Answer `GET /`: an upgrade is a user, anything else a browser that looks around."""
    is_upgrade = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
    if is_upgrade and request.method == hdrs.METH_GET:
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
