"""What the text frames of a client of `switchboard.v1` mean."""

import asyncio
import time
from functools import partial

from aiohttp import web

from switchboard_operator import client_frames_v1, frames, server_frames_v1, sessions
from switchboard_operator.connection import Connection
from switchboard_operator.errors import BadFrame, ProtocolBroken, TokenRefused
from switchboard_operator.mailbox import Page
from switchboard_operator.messages import UserMessage, concierge_body
from switchboard_operator.tokens import Proof
from switchboard_operator.web import keys


class V1Talk:
    """Opens a session, hands on what a client says, and tells it what became of each message."""

    __slots__ = (
        "_app",
        "_asked",
        "_connection",
        "_limits",
        "_loop",
        "_open",
        "_refused",
        "_rejects",
        "_timer",
        "_uplink",
    )

    def __init__(self, app: web.Application, connection: Connection, session: str | None) -> None:
        """Listen on behalf of *connection*; *session* was asked for in the upgrade, if any was."""
        self._app = app
        self._connection = connection
        self._asked = session
        self._uplink = app[keys.UPLINK]
        self._limits = app[keys.LIMITS]
        self._rejects = app[keys.METRICS].rejects
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._limits.open, connection.close, frames.NO_OPEN)
        self._open = False
        self._refused: tuple[str, str] | None = None  # the cid that must come again, and the code

    def take(self, text: str) -> int | None:
        """Take a frame; return the code to close with if it makes no sense of what comes next."""
        try:
            if not self._open:
                self._join(client_frames_v1.parse_open(text))
            else:
                self._say(client_frames_v1.parse_message(text))
        except ProtocolBroken:
            return frames.PROTOCOL_BROKEN
        except TokenRefused:
            return frames.BAD_TOKEN
        except client_frames_v1.BadMessage as exc:
            self._refuse(exc.cid, "bad_frame")
        except BadFrame as exc:
            self._rejects.labels("bad_frame").inc()
            self._connection.offer(server_frames_v1.bad_frame(exc.detail))
        return None

    def take_too_long(self, text: str) -> int | None:
        """Refuse a frame that is longer than allowed, by its cid if it has one."""
        try:
            cid = client_frames_v1.parse_cid(text)
        except BadFrame:
            return frames.TOO_BIG
        if not self._open:
            return frames.PROTOCOL_BROKEN
        self._refuse(cid, "too_large")
        return None

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._timer.cancel()

    def settled(self, cid: str, code: str | None, *, retry: bool) -> None:
        """Tell the client what became of its message *cid*; no code means that it was accepted."""
        if code is None:
            self._connection.offer(server_frames_v1.accepted(cid))
            return
        if retry and self._refused is None:
            self._refused = (cid, code)
        self._connection.offer(server_frames_v1.refused(cid, code, retry=retry))

    def _join(self, opened: client_frames_v1.Open) -> None:
        now = time.time()
        proof = Proof(self._asked or sessions.mint(), int(now))
        if opened.token is not None:
            proof = self._app[keys.TOKENS].read(opened.token, now)
        self._open = True
        self._timer.cancel()
        connection = self._connection
        token = self._app[keys.TOKENS].issue(proof)
        connection.join(proof.session, opened.last, partial(self._hello, opened, token))
        self._app[keys.CONNECTIONS].admit(connection)
        self._timer = self._loop.call_later(self._limits.hello, connection.greet_without_page)

    def _hello(
        self, opened: client_frames_v1.Open, token: str, page: Page | None, lost: int
    ) -> bytes:
        return server_frames_v1.hello(
            self._connection.session,
            token,
            server_frames_v1.resumption(opened, page, lost),
            heartbeat=self._limits.heartbeat,
            retry=self._limits.retry_window,
        )

    def _say(self, message: client_frames_v1.Message) -> None:
        if self._refused is not None and message.cid != self._refused[0]:
            # What came before it has to come again first, or their order would be lost.
            self._connection.offer(
                server_frames_v1.refused(message.cid, self._refused[1], retry=True)
            )
            return
        self._refused = None
        session, connection = self._connection.session, id(self._connection)
        body = concierge_body(session, message.said.message, message.said.payload)
        now = self._loop.time()
        said = UserMessage(session, message.cid, body, now, keyed_here=False, connection=connection)
        self._uplink.put(said, self)

    def _refuse(self, cid: str, code: str) -> None:
        self._rejects.labels("bad_frame").inc()
        self._connection.offer(server_frames_v1.refused(cid, code, retry=False))
