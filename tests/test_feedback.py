"""What users see of what becomes of their messages."""

import asyncio
import json
from collections.abc import Iterable, Sequence

import pytest

from switchboard_operator.broker.base import Receipt
from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.connection import Connection
from switchboard_operator.connections import Connections
from switchboard_operator.errors import BrokerFull
from switchboard_operator.feedback import Feedback
from switchboard_operator.frames import CLASSIC, Wire
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Delivery, Postback
from switchboard_operator.metrics import Metrics
from switchboard_operator.server_frames_v1 import V1
from switchboard_operator.turns import Turns
from tests.switchboards import SESSION, eventually
from tests.test_connections import RULES, FakeSocket

OTHER = "0b9e5b52-93a5-4a43-8f53-2d4c8d0f6a77"
SORRY = "We'll be back – „bald“ 🐶"
TYPING = b'{"type":"typing","ms":10000}'


class Broker(MemoryBroker):
    """A broker in memory that may be full, and keeps what it publishes in `published`."""

    def __init__(self) -> None:
        super().__init__(RULES, Limits())
        self.published: list[Delivery] = []
        self.full = False

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        if self.full:
            raise BrokerFull
        async with self.listen(self):
            return await super().publish(postbacks)

    def deliver(self, delivery: Delivery) -> None:
        self.published.append(delivery)

    def resync(self) -> None:
        """Nothing goes unheard in memory."""

    def write(self) -> None:
        """Nothing waits."""

    def has(self, _session: str) -> bool:
        return True

    def has_any(self, _sessions: Iterable[str]) -> bool:
        return True

    def sockets_of(self, session: str) -> int:
        return 0


def feedback_by(
    broker: Broker, *, reply: str = SORRY, every: float = 60.0, table: Connections | None = None
) -> Feedback:
    turns = Turns(Metrics("test"), Limits().unanswered)
    return Feedback(table or Connections(Limits()), broker, turns, reply, every)


def join(table: Connections, session: str, wire: Wire) -> tuple[Connection, FakeSocket]:
    """Add a connection of *session* to *table*."""
    socket = FakeSocket()
    connection = Connection(socket, wire, Broker().mailbox, Limits())
    connection.join(session, after=None)
    table.add(connection)
    return connection, socket


# That the Concierge has a message


async def test_sockets_that_know_such_a_thing_see_that_a_message_was_accepted() -> None:
    table = Connections(Limits())
    joined = [
        join(table, SESSION, V1),
        join(table, SESSION, CLASSIC),
        join(table, SESSION, V1),
        join(table, OTHER, V1),
    ]

    feedback_by(Broker(), table=table).accepted(SESSION)

    sent = [[content for kind, content in socket.sent if kind == "text"] for _, socket in joined]
    assert sent == [[TYPING], [], [TYPING], []]


async def test_whose_sockets_are_elsewhere_sees_nothing_here() -> None:
    broker = Broker()

    feedback_by(broker).accepted(SESSION)

    assert broker.published == []


# That it has not


async def test_who_was_not_heard_is_answered_as_a_bot_would() -> None:
    broker = Broker()

    await feedback_by(broker).not_delivered(SESSION)

    [delivery] = broker.published
    assert delivery.session == SESSION
    assert json.loads(delivery.body) == {"to": SESSION, "from": "switchboard", "body": SORRY}


async def test_the_answer_is_kept_for_who_is_away() -> None:
    broker = Broker()

    await feedback_by(broker).not_delivered(SESSION)

    page = await broker.mailbox.read(SESSION, None)
    assert page is not None
    assert page.bodies == (broker.published[0].body,)


async def test_without_a_text_for_it_nobody_is_answered() -> None:
    broker = Broker()

    await feedback_by(broker, reply="").not_delivered(SESSION)

    assert broker.published == []


async def test_a_session_is_answered_once_in_a_while_and_each_on_its_own() -> None:
    broker = Broker()
    feedback = feedback_by(broker)

    for session in (SESSION, SESSION, OTHER, SESSION, OTHER):
        await feedback.not_delivered(session)

    assert [delivery.session for delivery in broker.published] == [SESSION, OTHER]


async def test_after_a_while_a_session_is_answered_again() -> None:
    broker = Broker()
    feedback = feedback_by(broker, every=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await feedback.not_delivered(SESSION)

    async def is_answered_again() -> bool:
        await feedback.not_delivered(SESSION)
        return len(broker.published) == 2

    await eventually(is_answered_again)

    assert loop.time() - began >= 0.1


async def test_an_answer_that_finds_no_room_is_given_up_and_the_next_is_tried() -> None:
    broker = Broker()
    broker.full = True
    feedback = feedback_by(broker)

    await feedback.not_delivered(SESSION)
    broker.full = False
    await feedback.not_delivered(SESSION)

    assert len(broker.published) == 1


def remembered(feedback: Feedback) -> int:
    return len(feedback._replied)  # its memory, which nothing else shows


@pytest.mark.parametrize("reply", [SORRY, ""], ids=["answering", "silent"])
async def test_memory_shrinks_again_after_a_rush(reply: str) -> None:
    feedback = feedback_by(Broker(), reply=reply, every=0.05)
    for number in range(200):
        await feedback.not_delivered(f"session {number}")

    async def only_the_last_is_known() -> bool:
        await feedback.not_delivered(SESSION)
        return remembered(feedback) <= 1

    await eventually(only_the_last_is_known)
