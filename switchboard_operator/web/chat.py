"""The WebSocket endpoint: let a user in, and see to the socket until it is closed."""

from collections.abc import Iterable
from functools import partial

import structlog
from aiohttp import hdrs, web

from switchboard_operator import frames, logs, server_frames_v1
from switchboard_operator.connection import Connection
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.frames import Wire
from switchboard_operator.web import handshake, keys, request_id
from switchboard_operator.web.classic import ClassicTalk
from switchboard_operator.web.conversation import Conversation, Talk
from switchboard_operator.web.handshake import Link
from switchboard_operator.web.pages import index
from switchboard_operator.web.v1 import V1Talk
from switchboard_operator.web.websocket import WebSocket

log = structlog.get_logger()


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
    app[keys.ADMISSION].check_origin(request.headers.get(hdrs.ORIGIN), request.host)
    offers = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
    await (_let_in_v1 if speaks_v1(offers) else _let_in_classic)(request)
    return handshake.HandedOver()


def speaks_v1(offers: Iterable[str]) -> bool:
    """Tell whether v1 is among what the *offers* of an upgrade, lists of formats, name."""
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
    link = _take_link(request)
    link.transport.write(handshake.answer(accept, None, cookies))
    begin_classic(app, link, session, request.headers.get(request_id.HEADER))


async def _let_in_v1(request: web.Request) -> None:
    """Open the socket of a client that will say which session it joins. Raises UpgradeRefused."""
    app = request.app
    accept = handshake.accept_key(request)
    session = await app[keys.ADMISSION].session_asked(request)
    link = _take_link(request)
    link.transport.write(handshake.answer(accept, server_frames_v1.SUBPROTOCOL))
    begin_v1(app, link, session, request.headers.get(request_id.HEADER))


def _take_link(request: web.Request) -> Link:
    """Take the link of a request, if there is room; nobody else may come in before it is open."""
    app = request.app
    app[keys.ADMISSION].check_room(len(app[keys.CONNECTIONS]))
    return handshake.take_link(request)


def begin_classic(app: web.Application, link: Link, session: str, named: str | None) -> None:
    """Talk in the classic format, as *session*, on a link whose upgrade was *named* so."""
    connection, socket = _connection(app, link, frames.CLASSIC)
    _begin(app, connection, socket, ClassicTalk(app, connection))
    connection.join(session, after=None)
    app[keys.CONNECTIONS].admit(connection)
    _note_opened(app, connection, named)
    socket.read(link.early)


def begin_v1(app: web.Application, link: Link, session: str | None, named: str | None) -> None:
    """Talk in the format of v1; *session* was asked for in the upgrade, if any was."""
    connection, socket = _connection(app, link, server_frames_v1.V1)
    _begin(app, connection, socket, V1Talk(app, connection, session))
    _note_opened(app, connection, named)
    socket.read(link.early)


def _connection(app: web.Application, link: Link, wire: Wire) -> tuple[Connection, WebSocket]:
    socket = WebSocket(link.transport, app[keys.FRAME_READERS])
    connection = Connection(socket, wire, app[keys.MAILBOX], app[keys.LIMITS])
    connection.replayed = app[keys.METRICS].replayed
    connection.failed = partial(_note_bug, app)
    return connection, socket


def _begin(app: web.Application, connection: Connection, socket: WebSocket, talk: Talk) -> None:
    """Keep a connection in the table from now on, and until its conversation is over."""
    app[keys.CONNECTIONS].add(connection)
    app[keys.METRICS].opens.inc()
    socket.start(Conversation(app, connection, socket, talk, partial(_over, app, connection)))
    if app[keys.DRAINING].is_set():  # it began while the upgrade was answered
        connection.close(frames.RESTART, receipt=True)


def _note_bug(app: web.Application, connection: Connection, bug: Exception) -> None:
    app[keys.METRICS].task_failures.inc()
    log.error("connection failed", **_names(app, connection), exc_info=bug)


def _note_opened(app: web.Application, connection: Connection, named: str | None) -> None:
    if logs.debugging():
        called, wire = request_id.chosen(named), connection.wire.name
        log.debug("socket opened", request_id=called, **_names(app, connection), wire=wire)


def _over(app: web.Application, connection: Connection) -> None:
    code = connection.close_code or frames.ABNORMAL
    app[keys.CONNECTIONS].remove(connection)
    app[keys.METRICS].closed(code)
    if logs.debugging():
        log.debug("socket closed", **_names(app, connection), code=code)


def _names(app: web.Application, connection: Connection) -> dict[str, str]:
    """Return what lines call a connection and its session."""
    aliases = app[keys.ALIASES]
    return {
        "connection": aliases.of_connection(id(connection)),
        "session": aliases.of_session(connection.session),
    }
