"""Spans: one for each message, and its deliveries within it wherever they happen."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from switchboard_operator.aliases import Aliases
from switchboard_operator.app import create_app, serving
from switchboard_operator.limits import Limits
from switchboard_operator.settings import Settings
from tests.fakes import FakeConcierge, Incoming
from tests.redis_server import RedisServer, redis_server
from tests.session_api import state
from tests.session_api import user as user_id
from tests.switchboards import (
    SECRET_KEY,
    SESSION,
    Switchboard,
    client_session,
    eventually,
    signed,
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
    itself: bytes | None
    within: bytes | None


@dataclass
class Recorder:
    """A tracer that keeps what it records."""

    spans: list[Span] = field(default_factory=list)

    def span(
        self,
        name: str,
        start: int,
        end: int,
        attributes: Mapping[str, str],
        *,
        itself: bytes | None = None,
        within: bytes | None = None,
    ) -> None:
        self.spans.append(Span(name, start, end, attributes, itself, within))

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
            await user.receive_json()
        postbacks, deliveries = await recorder.has("postback", 3), await recorder.has("delivery", 3)

    assert [span.within for span in deliveries] == [span.itself for span in postbacks]
    assert len({span.itself for span in postbacks} - {None}) == 3
    assert [span.attributes for span in postbacks] == [
        {
            "session": ALIASES.of_session(session),
            "id": answer.headers["Switchboard-Message-Id"],
            "outcome": "confirmed",
        }
        for answer in answers
    ]
    assert all(span.within is None for span in postbacks)
    for postback, delivery in zip(postbacks, deliveries, strict=True):
        assert postback.start <= delivery.start <= delivery.end
        assert delivery.attributes == {"id": postback.attributes["id"], "how": "live"}
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

    postbacks = recorder.named("postback")
    assert [span.within for span in deliveries] == [span.itself for span in postbacks]
    assert None not in {span.itself for span in postbacks}


async def test_a_postback_that_is_repeated_is_within_the_first_and_not_delivered_again(
    concierge: FakeConcierge, broker_url: str
) -> None:
    recorder, session = Recorder(), user_id()
    body = b'{"to":"%s"}' % session.encode()
    async with traced(concierge, recorder, REDISCLOUD_URL=broker_url) as board:
        user = await board.connect(session)
        headers = signed(body)  # with the second of this signature: in another one it is another
        answers = [await board.postback(body, headers=headers) for _ in range(2)]
        await recorder.has("postback", 2)
        await recorder.has("delivery", 1)
        await user.close()

    assert [answer.headers.get("Switchboard-Duplicate") for answer in answers] == [None, "true"]
    first, second = recorder.named("postback")
    assert [span.attributes["outcome"] for span in (first, second)] == ["confirmed", "repeated"]
    assert second.within == first.itself
    assert len(recorder.named("delivery")) == 1


@pytest.mark.slow
async def test_a_delivery_by_another_instance_is_within_the_postbacks_span_too(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    here, there, session = Recorder(), Recorder(), user_id()
    async with (
        traced(concierge, here, REDISCLOUD_URL=redis.url) as one,
        traced(concierge, there, REDISCLOUD_URL=redis.url) as other,
    ):
        user = await other.connect(session)
        await one.postback({"to": session})
        await user.receive_json()
        [postback], [delivery] = await here.has("postback", 1), await there.has("delivery", 1)

    assert delivery.within == postback.itself is not None
    assert [span.name for span in here.spans + there.spans] == ["postback", "delivery"]


@pytest.mark.slow
@pytest.mark.parametrize("lane", LIMITS)
async def test_what_was_held_while_redis_was_away_is_joined_to_its_delivery(
    concierge: FakeConcierge, redis: RedisServer, lane: str
) -> None:
    recorder, session = Recorder(), user_id()
    limits = replace(LIMITS[lane], confirm=0.2)
    async with traced(concierge, recorder, limits, REDISCLOUD_URL=redis.url) as board:
        user = await board.connect(session)
        redis.freeze()
        answer = await board.postback({"to": session})
        redis.thaw()
        await user.receive_json(timeout=20)
        [postback], [delivery] = (
            await recorder.has("postback", 1),
            await recorder.has("delivery", 1),
        )

    assert answer.status == 202
    assert postback.attributes["outcome"] == "held"
    assert delivery.within == postback.itself is not None


@pytest.mark.slow
async def test_what_is_held_until_the_end_is_recorded_as_lost(concierge: FakeConcierge) -> None:
    recorder = Recorder()
    limits = replace(LIMITS["fast lane"], confirm=0.2, shutdown=1)
    async with (
        redis_server() as redis,
        traced(concierge, recorder, limits, REDISCLOUD_URL=redis.url) as board,
    ):
        await redis.kill()
        await board.postback({"to": SESSION})

    [postback] = recorder.named("postback")
    assert (postback.attributes["id"], postback.attributes["outcome"]) == ("", "lost")


async def test_what_is_read_from_the_mailbox_is_joined_to_its_postback(
    concierge: FakeConcierge, broker_url: str
) -> None:
    recorder, session = Recorder(), user_id()
    async with traced(concierge, recorder, REDISCLOUD_URL=broker_url) as board:
        await board.postback([{"to": session, "n": number} for number in range(2)])
        asked = await state(board, session)
        before = recorder.named("delivery")
        user = await board.connect(session)
        for _ in range(2):
            await user.receive_json(timeout=10)
        postbacks, deliveries = await recorder.has("postback", 2), await recorder.has("delivery", 2)

    assert before == []  # nobody was there, and to be asked about is no delivery
    assert asked["last"] == postbacks[1].attributes["id"]
    assert [span.within for span in deliveries] == [span.itself for span in postbacks]
    assert [span.attributes["how"] for span in deliveries] == ["replayed", "replayed"]


async def test_a_postback_without_an_id_has_a_span_of_its_own(concierge: FakeConcierge) -> None:
    recorder = Recorder()
    async with traced(concierge, recorder, MAILBOX_SIZE="0") as board:
        user = await board.connect()
        await board.postback({"to": SESSION})
        await user.receive_json(timeout=10)

    [span] = recorder.spans
    assert (span.name, span.itself, span.attributes["id"]) == ("postback", None, "")


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
