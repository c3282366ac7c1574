"""The WebSocket endpoint: let a user in, and see to the socket until it is closed."""

from functools import partial

from aiohttp import hdrs, web

from switchboard_operator import frames, server_frames_v1
from switchboard_operator.connection import Connection
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.frames import Wire
from switchboard_operator.web import handshake, keys
from switchboard_operator.web.classic import ClassicTalk
from switchboard_operator.web.conversation import Conversation, Talk
from switchboard_operator.web.pages import index
from switchboard_operator.web.v1 import V1Talk
from switchboard_operator.web.websocket import WebSocket


async def chat_or_index(request: web.Request) -> web.StreamResponse:
    """Answer `GET /`: an upgrade is a user, anything else a browser that looks around."""
    is_upgrade = request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket"
    if is_upgrade and request.method == hdrs.METH_GET:
        return await chat(request)
    return await index(request)


async def chat(request: web.Request) -> web.StreamResponse:
    """Let a user in; the socket goes on after the request. Raises UpgradeRefused."""
    app = request.app
    if app[keys.DRAINING].is_set():
        raise UpgradeRefused("draining", "this instance is shutting down", status=503)
    app[keys.ROOM].take()
    try:
        app[keys.ADMISSION].check_origin(request)
        await (_let_in_v1 if _speaks_v1(request) else _let_in_classic)(request)
    except BaseException:
        app[keys.ROOM].give_back()
        raise
    return handshake.HandedOver()


def _speaks_v1(request: web.Request) -> bool:
    offers = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
    return any(
        offer.strip() == server_frames_v1.SUBPROTOCOL
        for line in offers
        for offer in line.split(",")
    )


async def _let_in_classic(request: web.Request) -> None:
    """Open the socket of a client that joins its session at once. Raises UpgradeRefused."""
    app, admission = request.app, request.app[keys.ADMISSION]
    accept = handshake.accept_key(request)
    session, cookie = await admission.session_of(request)
    cookies = web.Response()
    if cookie is not None:
        await admission.set_cookie(request, cookies, cookie)
    link = _upgrade(request, handshake.answer(accept, None, cookies))
    connection = _connection(app, link[0], frames.CLASSIC)
    connection.join(session, after=None)
    _begin(app, connection, link, ClassicTalk(app, connection))


async def _let_in_v1(request: web.Request) -> None:
    """Open the socket of a client that will say which session it joins. Raises UpgradeRefused."""
    app = request.app
    accept = handshake.accept_key(request)
    session = await app[keys.ADMISSION].session_asked(request)
    answer = handshake.answer(accept, server_frames_v1.SUBPROTOCOL, web.Response())
    link = _upgrade(request, answer)
    connection = _connection(app, link[0], server_frames_v1.V1)
    _begin(app, connection, link, V1Talk(app, connection, session))


_Link = tuple[WebSocket, bytes]  # a socket, and what its client has sent already


def _upgrade(request: web.Request, answer: bytes) -> _Link:
    transport, early = handshake.take_link(request)
    transport.write(answer)
    return WebSocket(transport, request.app[keys.FRAME_READERS]), early


def _connection(app: web.Application, socket: WebSocket, wire: Wire) -> Connection:
    connection = Connection(socket, wire, app[keys.BROKER].mailbox, app[keys.LIMITS])
    connection.replayed = app[keys.METRICS].replayed
    return connection


def _begin(app: web.Application, connection: Connection, link: _Link, talk: Talk) -> None:
    """Keep a connection in the table from now on, and until its conversation is over."""
    socket, early = link
    app[keys.CONNECTIONS].add(connection)
    app[keys.METRICS].opens.inc()
    conversation = Conversation(app, connection, socket, talk, partial(_over, app, connection))
    socket.start(conversation, early)
    if app[keys.DRAINING].is_set():  # it began while the upgrade was answered
        connection.close(frames.RESTART, receipt=True)


def _over(app: web.Application, connection: Connection) -> None:
    app[keys.ROOM].give_back()
    app[keys.CONNECTIONS].remove(connection)
    app[keys.METRICS].closed(connection.close_code or frames.ABNORMAL)
