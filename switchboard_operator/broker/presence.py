"""How many sockets a session has on all instances: each is asked, over the channel."""

import asyncio
import uuid
from contextlib import suppress

import msgspec

from switchboard_operator.broker import channels
from switchboard_operator.broker.base import Subscriber
from switchboard_operator.broker.calls import Calls
from switchboard_operator.broker.resp import Command

ADDRESS = "~sockets"  # no session's: `~` is not in their alphabet
QUESTION_OR_ANSWER = b'{"to":"~sockets"'  # how each begins


class _Message(msgspec.Struct, omit_defaults=True):
    to: str
    question: str
    session: str | None = None
    count: int | None = None


_decoder = msgspec.json.Decoder(_Message)


class Presence:
    """Asks all instances, and answers for this one."""

    def __init__(self, calls: Calls, patience: float) -> None:
        """Wait for answers *patience* seconds at most: other programs hear and say nothing."""
        self._calls = calls
        self._patience = patience
        self._answers: dict[str, list[int]] = {}
        self._heard = asyncio.Event()

    async def count(self, session: str) -> int:
        """Return how many sockets *session* has. Raises BrokerUnavailable."""
        question = uuid.uuid4().hex
        answers = self._answers[question] = []
        try:
            asking = _publishing(_Message(ADDRESS, question, session=session))
            instances = await self._calls.ask(asking)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    while len(answers) < instances:
                        self._heard.clear()
                        await self._heard.wait()
        finally:
            del self._answers[question]
        return sum(answers)

    def take(self, data: bytes, subscriber: Subscriber) -> None:
        """Answer a question, or take an answer; anything else is none of ours."""
        try:
            message = _decoder.decode(data)
        except msgspec.MsgspecError:
            return
        if message.session is not None:
            count = subscriber.sockets_of(message.session)
            self._calls.tell(_publishing(_Message(ADDRESS, message.question, count=count)))
        elif message.count is not None and message.question in self._answers:
            self._answers[message.question].append(message.count)
            self._heard.set()


def _publishing(message: _Message) -> Command:
    return ("PUBLISH", channels.ANYBODYS, msgspec.json.encode(message))
