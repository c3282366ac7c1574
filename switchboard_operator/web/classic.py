"""What the text frames of a classic client mean."""

import asyncio
import uuid

from aiohttp import web

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.errors import BadFrame
from switchboard_operator.messages import UserMessage, concierge_body
from switchboard_operator.web import keys


class ClassicTalk:
    """Hands on what a client says; it hears nothing of what becomes of that."""

    __slots__ = ("_connection", "_loop", "_rejects", "_uplink")

    def __init__(self, app: web.Application, connection: Connection) -> None:
        """Listen on behalf of *connection*, which has joined its session."""
        self._connection = connection
        self._uplink = app[keys.UPLINK]
        self._rejects = app[keys.METRICS].rejects
        self._loop = asyncio.get_running_loop()

    def take(self, text: str) -> int | None:
        """Take a frame; whatever it is, the socket stays."""
        try:
            frame = frames.parse(text)
        except BadFrame as exc:
            self._rejects.labels("bad_frame").inc()
            self._connection.offer(frames.bad_frame(exc.detail))
            return None
        session, connection = self._connection.session, id(self._connection)
        body = concierge_body(session, frame.message, frame.payload)
        key, now = uuid.uuid4().hex, self._loop.time()
        self._uplink.put(UserMessage(session, key, body, now, connection=connection))
        return None

    def take_too_long(self, _text: str) -> int | None:
        """Refuse a frame that is longer than allowed."""
        return frames.TOO_BIG

    def stop(self) -> None:
        """Do nothing: what was said goes its way."""
