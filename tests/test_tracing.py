"""Spans: one for each message, and its delivery within it where both are seen."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from switchboard_operator import tracing
from switchboard_operator.aliases import Aliases
from switchboard_operator.app import create_app, serving
from switchboard_operator.limits import Limits
from switchboard_operator.marks import Mark
from switchboard_operator.settings import Settings
from tests.fakes import FakeConcierge, Incoming
from tests.redis_server import RedisServer
from tests.session_api import user as user_id
from tests.switchboards import (
    SECRET_KEY,
    SESSION,
    Switchboard,
    client_session,
    eventually,
    variables,
)

ALIASES = Aliases([SECRET_KEY])

# Nobody else has to be back before we publish; and a busy machine may take its time to confirm.
LIMITS = {
    "fast lane": Limits(redis_settle=0.02, confirm=20, close=0.1),
    "plain path": Limits(redis_settle=0.02, confirm=20, close=0.1, doorstep_bytes=0),
}


@dataclass(eq=False)
class Span:
    """What was recorded."""

    name: str
    start: int
    end: int
    attributes: Mapping[str, str]
    parent: "Span | None"


@dataclass
class Recorder:
    """A tracer that keeps what it records."""

    spans: list[Span] = field(default_factory=list)

    def span(
        self, name: str, start: int, end: int, attributes: Mapping[str, str], parent: Any = None
    ) -> Span:
        self.spans.append(Span(name, start, end, attributes, parent))
        return self.spans[-1]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def has(self, name: str, count: int) -> list[Span]:
        await eventually(lambda: len(self.named(name)) >= count)
        return self.named(name)


@asynccontextmanager
async def traced(
    concierge: FakeConcierge, recorder: Recorder, limits: Limits = LIMITS["fast lane"], **more: str
) -> AsyncIterator[Switchboard]:
    """Run a switchboard, in this process, whose messages are recorded."""
    app = create_app(Settings.read(variables(concierge.url, **more)), limits, tracer=recorder)
    async with client_session() as client, serving(app, "127.0.0.1", 0) as url:
        board = Switchboard(url, client, app)

        async def is_ready() -> bool:
            return (await board.get("/ready"))[0] == 200

        await eventually(is_ready)
        yield board


@pytest.mark.parametrize("lane", LIMITS)
async def test_a_delivery_is_a_span_within_its_postbacks(
    concierge: FakeConcierge, broker_url: str, lane: str
) -> None:
    recorder, session = Recorder(), user_id()
    async with traced(concierge, recorder, LIMITS[lane], REDISCLOUD_URL=broker_url) as board:
        user = await board.connect(session)
        answers = [await board.postback({"to": session, "n": number}) for number in range(3)]
        for _ in answers:
            await user.receive_json(timeout=10)
        postbacks, deliveries = await recorder.has("postback", 3), await recorder.has("delivery", 3)

    assert [span.parent for span in deliveries] == postbacks
    assert [span.attributes for span in postbacks] == [
        {
            "session": ALIASES.of_session(session),
            "id": answer.headers["Switchboard-Message-Id"],
            "outcome": "confirmed",
        }
        for answer in answers
    ]
    assert all(span.parent is None for span in postbacks)
    for delivery in deliveries:
        assert delivery.parent is not None
        assert delivery.parent.start <= delivery.start <= delivery.end
    assert session not in str(recorder.spans)


async def test_each_postback_of_an_array_has_its_own_span(
    concierge: FakeConcierge, broker_url: str
) -> None:
    recorder, session = Recorder(), user_id()
    async with traced(concierge, recorder, REDISCLOUD_URL=broker_url) as board:
        user = await board.connect(session)
        await board.postback([{"to": session, "n": number} for number in range(3)])
        deliveries = await recorder.has("delivery", 3)
        await user.close()

    assert [span.parent for span in deliveries] == recorder.named("postback")


async def test_a_postback_that_is_repeated_is_not_delivered_again(
    concierge: FakeConcierge, broker_url: str
) -> None:
    recorder, session = Recorder(), user_id()
    async with traced(concierge, recorder, REDISCLOUD_URL=broker_url) as board:
        user = await board.connect(session)
        answers = [await board.postback({"to": session}) for _ in range(2)]
        await recorder.has("postback", 2)
        await recorder.has("delivery", 1)
        await user.close()

    assert [answer.headers.get("Switchboard-Duplicate") for answer in answers] == [None, "true"]
    outcomes = [span.attributes["outcome"] for span in recorder.named("postback")]
    assert outcomes == ["confirmed", "repeated"]
    assert len(recorder.named("delivery")) == 1


@pytest.mark.slow
async def test_what_another_instance_publishes_has_its_span_there(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    here, there, session = Recorder(), Recorder(), user_id()
    async with (
        traced(concierge, here, REDISCLOUD_URL=redis.url) as one,
        traced(concierge, there, REDISCLOUD_URL=redis.url) as other,
    ):
        user = await other.connect(session)
        await one.postback({"to": session})
        await user.receive_json(timeout=10)
        await here.has("postback", 1)

    assert [span.name for span in here.spans] == ["postback"]
    assert there.spans == []


@pytest.mark.parametrize(("status", "outcome"), [(204, "accepted"), (400, "status_4xx")])
async def test_a_post_to_the_concierge_is_a_span(
    concierge: FakeConcierge, status: int, outcome: str
) -> None:
    async def answer(_incoming: Incoming) -> int:
        return status

    concierge.answer = answer
    recorder, session = Recorder(), user_id()
    async with traced(concierge, recorder) as board:
        user = await board.connect(session)
        await user.send_json({"message": "hello"})
        [span] = await recorder.has("user message", 1)
        [incoming] = concierge.received

    key = incoming.header("X-Request-ID")
    assert span.attributes == {
        "session": ALIASES.of_session(session),
        "request_id": key,
        "outcome": outcome,
    }
    assert span.start < span.end


def test_what_waits_for_its_other_end_is_bounded_and_the_latest_stays() -> None:
    latest: tracing._Latest[int] = tracing._Latest()
    places = [(SESSION, Mark("e", number)) for number in range(1, 2501)]

    for number, place in enumerate(places):
        latest.put(place, number)

    found = [latest.pop(place) for place in places]
    assert found == [None] * 1500 + list(range(1500, 2500))
    assert latest.pop(places[-1]) is None
