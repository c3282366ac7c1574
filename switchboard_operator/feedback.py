"""What users see of what becomes of their messages: that the bot is at it, or that it is away."""

import asyncio
import uuid
from collections.abc import Callable

import msgspec

from switchboard_operator.broker.base import Broker
from switchboard_operator.connections import Connections
from switchboard_operator.errors import BrokerFull
from switchboard_operator.messages import Postback
from switchboard_operator.turns import Turns

SENDER = "switchboard"  # whom OFFLINE_REPLY is from


class Feedback:
    """Shows that the Concierge has a message, and answers in its place when it has not."""

    def __init__(
        self,
        connections: Connections,
        broker: Broker,
        turns: Turns,
        offline_reply: str,
        every: float,
    ) -> None:
        """Answer with *offline_reply*, "" for not at all, and *every* so many seconds at most."""
        self._connections = connections
        self._broker = broker
        self._turns = turns
        self._offline_reply = offline_reply
        self._every = every
        self._replied: dict[str, float] = {}  # the loop's time, by session; the oldest first
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    def posting(self, session: str) -> None:
        """Expect the bot to answer a message of *session*, which is posted now."""
        self._turns.begin(session)

    def accepted(self, session: str) -> None:
        """Show that a message of *session* has reached the Concierge."""
        for connection in self._connections.of(session):
            if connection.wire.typing is not None:
                connection.offer(connection.wire.typing)

    async def not_delivered(self, session: str) -> None:
        """Answer, as a bot would, that a message of *session* was not delivered."""
        self._turns.withdraw(session)
        if not self._offline_reply or not self._is_due(session):
            return
        content = {"to": session, "from": SENDER, "body": self._offline_reply}
        try:
            reply = Postback(session, msgspec.json.encode(content), uuid.uuid4().hex)
            await self._broker.publish([reply])
        except BrokerFull:  # there is worse to be told
            del self._replied[session]

    def _is_due(self, session: str) -> bool:
        now = self._now()
        while self._replied and next(iter(self._replied.values())) + self._every <= now:
            del self._replied[next(iter(self._replied))]
        if session in self._replied:
            return False
        self._replied[session] = now
        return True
