"""What an instance takes of all that is published, and how much of it at a time."""

import asyncio
import dataclasses
import re

import pytest
from redis.asyncio import Redis

from switchboard_operator.broker.listener import FEW_FOR_US, SMALL
from switchboard_operator.messages import Delivery
from tests.brokers import LIMITS, Instance, instance, postback
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import SESSION, eventually

pytestmark = pytest.mark.slow  # each starts a Redis

TURN = 10  # messages
BUNDLE = 64  # postbacks, at most


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.now = 0
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self.now += 1
        self._handle = self._loop.call_soon(self._next)

    def stop(self) -> None:
        self._handle.cancel()


def rejected(here: Instance) -> float:
    """Return how many broadcasts were junk."""
    shown = here.metrics.exposition().decode()
    found = re.search(r'^switchboard_rejects_total{reason="broadcast"} (.*)$', shown, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


async def flood(redis: RedisServer, *messages: bytes) -> None:
    """Publish *messages* so that they come at once."""
    async with Redis(port=redis.port) as client, client.pipeline() as together:
        for message in messages:
            await together.publish("bot-message", message)
        await together.execute()


async def test_what_is_for_others_is_not_delivered_but_junk_is_counted_whoever_it_is_for() -> None:
    async with redis_server() as redis, instance(redis.url) as here:
        here.ear.elsewhere.add("bob")

        await flood(
            redis,
            b'{"to":"bob","n":1}',
            b'{"switchboard":"k3f9:1","to":"bob","n":1}',
            b'{"to":"bob","n":}',
            b'{"to":"bob","n":"\xff"}',
            b'{"switchboard":"k3f9:1","to":"bob",}',
            b'{"to":"alice","n":"last"}',
        )

        assert await here.ear.hears(1) == [Delivery("alice", b'{"to":"alice","n":"last"}', None)]
        assert rejected(here) == 3


@pytest.mark.parametrize("to", ["alice", "bob"], ids=["for us", "for others"])
async def test_a_flood_gives_writers_a_turn_after_so_many_bytes(to: str) -> None:
    message = b'{"to":"%b","text":"%b"}' % (to.encode(), b"x" * 100)
    limits = dataclasses.replace(LIMITS, burst_bytes=(TURN - 1) * (len(message) + SMALL))
    taken: list[int] = []
    async with redis_server() as redis, instance(redis.url, limits) as here:
        turns = Turns()

        def has(session: str) -> bool:
            taken.append(turns.now)
            return session == "alice"

        here.ear.has = has  # type: ignore[method-assign] # it is asked of every message

        await flood(redis, *[message] * 50 * TURN)
        await eventually(lambda: len(taken) == 50 * TURN)
        turns.stop()

    most = max(taken.count(turn) for turn in set(taken))
    assert most == TURN


async def test_a_flood_of_bundles_gives_writers_a_turn_after_each_that_is_large() -> None:
    limits = dataclasses.replace(LIMITS, burst_bytes=BUNDLE * SMALL)
    taken: list[int] = []
    async with redis_server() as redis, instance(redis.url, limits) as here:
        turns = Turns()
        hear = here.ear.deliver

        def deliver(delivery: Delivery) -> None:
            taken.append(turns.now)
            hear(delivery)

        here.ear.deliver = deliver  # type: ignore[method-assign] # it is told of every postback

        await here.publish(*(postback(SESSION, number) for number in range(7 * BUNDLE)))
        await here.ear.hears(7 * BUNDLE)
        turns.stop()

    assert max(taken.count(turn) for turn in set(taken)) == BUNDLE


@pytest.mark.parametrize("how", ["bundles", "single messages"])
async def test_an_instance_that_hears_of_others_only_reads_less_often_until_it_is_meant(
    how: str,
) -> None:
    limits, loop = dataclasses.replace(LIMITS, lull=1.0), asyncio.get_running_loop()
    async with redis_server() as redis, instance(redis.url, limits) as here:
        here.ear.elsewhere.add(SESSION)

        async def publish(session: str, number: int) -> None:
            if how == "bundles":
                await here.publish(postback(session, number))
            else:
                await flood(redis, postback(session, number).body)

        for number in range(FEW_FOR_US + 1):
            await publish(SESSION, number)
        began = loop.time()
        await publish("a-session-for-us", 1)
        await here.ear.hears(1)
        first = loop.time()
        await publish("a-session-for-us", 2)
        await here.ear.hears(2)

        assert first - began > 0.5  # the lull had begun
        assert loop.time() - first < 0.9
