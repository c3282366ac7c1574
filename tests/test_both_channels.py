"""Postbacks go in bundles while only instances listen, and one by one for anybody else."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from switchboard_operator.broker import channels
from switchboard_operator.messages import Postback
from tests.brokers import LIMITS, Instance, instance, postback
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import eventually

pytestmark = pytest.mark.slow  # each starts a Redis

BUNDLE, BUNDLE_BYTES = 64, 65_536  # at most in one


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
def session() -> str:
    return str(uuid.uuid4())


class Other:
    """A program that is no instance, and hears what goes over some channel."""

    def __init__(self, listening: Any) -> None:
        self._listening = listening

    async def hears(self, count: int) -> list[bytes]:
        """Return the next *count* messages; no probes."""
        heard: list[bytes] = []
        async with asyncio.timeout(10):
            while len(heard) < count:
                message = await self._listening.get_message(True, timeout=1)
                if message is not None and b"~probe" not in message["data"]:
                    heard.append(message["data"])
        return heard


@asynccontextmanager
async def other(redis: RedisServer, channel: str, *, pattern: bool = False) -> AsyncIterator[Other]:
    async with Redis(port=redis.port) as client, client.pubsub() as listening:
        await (listening.psubscribe if pattern else listening.subscribe)(channel)
        await listening.get_message(timeout=5)  # that it is subscribed
        yield Other(listening)


async def publish(here: Instance, session: str, first: int, count: int = 3) -> None:
    await here.publish(*(postback(session, number) for number in range(first, first + count)))


def numbers(here: Instance) -> list[int]:
    return [json.loads(delivery.body)["n"] for delivery in here.ear.heard]


async def test_others_hear_each_postback_from_when_they_listen_and_instances_each_once(
    redis: RedisServer, session: str
) -> None:
    async with instance(redis.url) as here, instance(redis.url) as there:
        await publish(here, session, 0)
        async with other(redis, channels.ANYBODYS) as original:
            await publish(here, session, 3)
            heard = await original.hears(3)
        await eventually(lambda: nobody_else(redis))
        await publish(here, session, 6)

        for each in (here, there):
            await each.ear.hears(9)
            assert numbers(each) == list(range(9))
            assert [d.mark.number for d in each.ear.heard if d.mark] == list(range(1, 10))
    assert [json.loads(message)["n"] for message in heard] == [3, 4, 5]
    assert {json.loads(message)["to"] for message in heard} == {session}


async def nobody_else(redis: RedisServer) -> bool:
    heard = await redis.call("PUBSUB", "NUMSUB", channels.ANYBODYS, channels.OWN)
    return bool(heard[1] == heard[3])


async def test_a_program_that_listens_to_a_pattern_hears_each_postback_too(
    redis: RedisServer, session: str
) -> None:
    async with instance(redis.url) as here, other(redis, "bot-*", pattern=True) as script:
        await publish(here, session, 0)

        assert [json.loads(message)["n"] for message in await script.hears(3)] == [0, 1, 2]


@pytest.mark.parametrize("tag", ["", "feed:7"])
async def test_a_postback_without_an_id_has_nothing_that_passes_for_one_when_others_listen(
    redis: RedisServer, tag: str
) -> None:
    body = b'{"switchboard":"%s","to":"short","n":1}' % tag.encode()
    async with instance(redis.url) as here, other(redis, channels.ANYBODYS) as original:
        await here.publish(Postback("short", body, "1"))
        [heard] = await original.hears(1)
        await here.ear.hears(1)

    assert heard == b'{"switchboard":"",' + body[1:]
    assert here.ear.heard[0].body == body
    assert here.ear.heard[0].mark is None


async def test_an_instance_that_may_listen_to_one_channel_only_misses_nothing_nor_do_others(
    session: str,
) -> None:
    acl = ["--user", "narrow", "on", ">word", "~switchboard:*", "&bot-message", "+@all"]
    async with redis_server(acl) as redis, instance(redis.url) as wide:
        await publish(wide, session, 0)
        narrow_url = f"redis://narrow:word@127.0.0.1:{redis.port}"
        async with instance(narrow_url) as narrow:
            await publish(narrow, session, 3)
            await publish(wide, session, 6)
            await narrow.ear.hears(6)

            assert numbers(narrow) == list(range(3, 9))
        await wide.ear.hears(9)
        assert numbers(wide) == list(range(9))


async def test_a_bundle_is_no_larger_than_listeners_can_take_in_one_go(
    redis: RedisServer, session: str
) -> None:
    large = "x" * (BUNDLE_BYTES // 4)
    async with instance(redis.url) as here, other(redis, channels.OWN) as spy:
        async with other(redis, channels.ANYBODYS):  # for as many listeners to both
            await here.publish(*(postback(session, number) for number in range(150)))
            await here.publish(*(postback(session, 200 + n, text=large) for n in range(6)))
            bundles = await spy.hears(5)
        await here.ear.hears(156)

    sizes = [(b.partition(b"\n")[0].count(b" ") + 1) // 3 for b in bundles]
    assert sizes == [BUNDLE, BUNDLE, 150 - 2 * BUNDLE, 4, 2]
    assert numbers(here) == [*range(150), *range(200, 206)]


async def test_a_bundle_that_is_none_is_counted_and_dropped(
    redis: RedisServer, session: str
) -> None:
    async with instance(redis.url, LIMITS) as here:
        for junk in (b"", b"hello", b'{"to":"alice"}', b"a:1 alice 7\n{}", b"\xff 1 1\n1"):
            await redis.call("PUBLISH", channels.OWN, junk)
        await redis.call("PUBLISH", channels.OWN, b"\n")  # one of nothing
        await publish(here, session, 0)

        await here.ear.hears(3)
        assert numbers(here) == [0, 1, 2]
        shown = here.metrics.exposition().decode()
    assert 'switchboard_rejects_total{reason="broadcast"} 5.0' in shown
