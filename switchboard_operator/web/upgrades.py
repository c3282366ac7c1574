"""Upgrades that need no cookie, without aiohttp's requests: a WebSocket is open at once."""

import asyncio

import structlog
from aiohttp import web

from switchboard_operator import plain_http, server_frames_v1
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.plain_http import Upgrade, Verdict
from switchboard_operator.web import chat, handshake, keys, request_id
from switchboard_operator.web.handshake import Link

log = structlog.get_logger()


class Upgrades:
    """
    Lets users in just as `web.chat` does, or leaves them to it.

    It lets in only whom it need not refuse, and who needs no cookie to come back as the same user.
    """

    def __init__(self, app: web.Application) -> None:
        """Serve *app*, which is running."""
        self._app = app
        self._admission = app[keys.ADMISSION]
        self._connections = app[keys.CONNECTIONS]

    def take(self, data: bytes | bytearray, transport: asyncio.Transport) -> Verdict | None:
        """Open the socket that is asked for at the start of *data*; None if that is done."""
        upgrade = plain_http.recognise_upgrade(data)
        if isinstance(upgrade, Verdict):
            return upgrade
        is_v1 = chat.speaks_v1((upgrade.fields.get("sec-websocket-protocol", ""),))
        if self._app[keys.DRAINING].is_set() or not (is_v1 or upgrade.session):
            return Verdict.OTHER
        try:
            self._admission.check_origin(upgrade.fields.get("origin"), upgrade.fields["host"])
            session = self._admission.session_named(upgrade.session)
            self._admission.check_room(len(self._connections))
        except UpgradeRefused:
            return Verdict.OTHER
        self._open(upgrade, Link(transport, bytes(data[upgrade.size :])), session, is_v1=is_v1)
        return None

    def _open(self, upgrade: Upgrade, link: Link, session: str | None, *, is_v1: bool) -> None:
        accept = handshake.accepted(upgrade.fields["sec-websocket-key"])
        named = upgrade.fields.get(request_id.HEADER.lower())
        try:
            if is_v1:
                link.transport.write(handshake.answer(accept, server_frames_v1.SUBPROTOCOL))
                chat.begin_v1(self._app, link, session, named)
            elif session is not None:
                link.transport.write(handshake.answer(accept, None))
                chat.begin_classic(self._app, link, session, named)
        except Exception:  # a bug, which costs this user the socket and nobody else anything
            log.exception(
                "upgrade failed",
                request_id=request_id.chosen(named),
                session=self._app[keys.ALIASES].of_session(session or ""),
            )
            self._app[keys.METRICS].task_failures.inc()
            link.transport.abort()
