"""Calls to Redis: which of them wait out an outage, which fail at once, and how many are kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ResponseError

from switchboard_operator.broker.calls import FEW, Calls
from switchboard_operator.broker.linker import linker
from switchboard_operator.broker.reconnector import ended
from switchboard_operator.errors import BrokerUnavailable
from switchboard_operator.limits import Limits
from tests.proxy import Proxy
from tests.redis_server import RedisServer, free_port, redis_server
from tests.switchboards import eventually

QUICK = Limits(redis_pause=0.05)


def calls_to(port: int) -> Calls:
    """Return calls to the Redis on *port*, none of which is made yet."""
    return Calls(linker(f"redis://127.0.0.1:{port}", QUICK, verify=True), QUICK)


@asynccontextmanager
async def made(calls: Calls) -> AsyncIterator[None]:
    """Make *calls* within the context."""
    making = asyncio.create_task(calls.run())
    try:
        yield
    finally:
        await ended([making])


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Calls]:
    """Make calls to the Redis on *port* within the context, which begins when they work."""
    calls = calls_to(port)
    async with made(calls):
        await eventually(lambda: calls.up)
        yield calls


def queued(calls: Calls) -> int:
    return len(calls._queue)  # what is kept of calls, which nothing else shows


# What is kept in an outage


async def test_calls_that_nobody_waits_for_any_more_do_not_pile_up() -> None:
    calls = calls_to(free_port())
    most = 0

    for _ in range(5 * FEW):
        calls.put(("PING",), patient=True).cancel()
        most = max(most, queued(calls))

    assert most <= FEW


async def test_what_is_kept_is_in_proportion_to_the_calls_that_somebody_waits_for() -> None:
    calls = calls_to(free_port())
    kept = [calls.put(("PING",), patient=True) for _ in range(2 * FEW)]
    most = 0

    for _ in range(20 * FEW):
        calls.put(("PING",), patient=True).cancel()
        most = max(most, queued(calls))

    assert len(kept) < most <= 2 * (len(kept) + 1)  # nobody has cancelled the one just put yet


async def test_after_an_outage_with_many_calls_few_are_kept_again() -> None:
    calls = calls_to(free_port())
    for reply in [calls.put(("PING",), patient=True) for _ in range(10 * FEW)]:
        reply.cancel()

    for _ in range(20 * FEW):
        calls.put(("PING",), patient=True).cancel()

    assert queued(calls) <= FEW


@pytest.mark.slow
async def test_calls_that_somebody_waits_for_are_made_in_order_when_redis_is_there() -> None:
    redis = RedisServer()
    calls = calls_to(redis.port)
    kept = []
    for number in range(6 * FEW):
        reply = calls.put(("RPUSH", "made", number), patient=True)
        if number % 3:
            reply.cancel()
        else:
            kept.append(reply)

    await redis.start()
    try:
        async with made(calls):
            lengths = await asyncio.gather(*kept)
        numbers = await redis.call("LRANGE", "made", 0, -1)
    finally:
        await redis.kill()

    assert lengths == list(range(1, 2 * FEW + 1))
    assert [int(number) for number in numbers] == list(range(0, 6 * FEW, 3))


# Patience


async def test_where_redis_never_was_an_impatient_call_fails_at_once() -> None:
    calls = calls_to(free_port())

    reply = calls.put(("PING",))

    assert reply.done()
    assert isinstance(reply.exception(), BrokerUnavailable)
    assert queued(calls) == 0


@pytest.mark.slow
async def test_while_redis_is_away_an_impatient_call_fails_at_once_a_patient_one_waits() -> None:
    async with redis_server() as redis, calling(redis.port) as calls:
        await redis.kill()
        with pytest.raises(BrokerUnavailable):
            await calls.ask(("PING",))  # by which the outage is seen
        await eventually(lambda: not calls.up)

        patient = calls.put(("ECHO", "patient"), patient=True)
        impatient = calls.put(("ECHO", "impatient"))

        assert impatient.done()
        assert isinstance(impatient.exception(), BrokerUnavailable)
        assert not patient.done()
        await redis.start()
        assert await patient == b"patient"
        assert await calls.ask(("ECHO", "impatient")) == b"impatient"


@pytest.mark.slow
async def test_a_call_whose_answer_got_lost_is_made_again_if_patient_and_fails_if_not() -> None:
    async with (
        redis_server() as redis,
        Proxy(redis.port).serving() as route,
        calling(route.port) as calls,
    ):
        route.silence()
        patient = calls.put(("INCR", "patient"), patient=True)
        impatient = calls.put(("INCR", "impatient"))
        await eventually(lambda: are_made(redis, "patient", "impatient"))

        route.cut()
        route.restore()

        with pytest.raises(BrokerUnavailable):
            await impatient
        assert await patient == 2
        assert await redis.call("GET", "impatient") == b"1"


async def are_made(redis: RedisServer, *counters: str) -> bool:
    counted: list[bytes] = await redis.call("MGET", *counters)
    return counted == [b"1"] * len(counters)


@pytest.mark.slow
async def test_calls_that_wait_behind_a_lost_answer_are_made_after_it_in_order() -> None:
    async with (
        redis_server() as redis,
        Proxy(redis.port).serving() as route,
        calling(route.port) as calls,
    ):
        route.silence()
        first = calls.put(("RPUSH", "made", 0), patient=True)
        await eventually(lambda: is_long(redis, "made", 1))
        behind = [calls.put(("RPUSH", "made", n), patient=True) for n in range(1, 121)]

        route.cut()
        route.restore()

        assert await first == 2
        assert await asyncio.gather(*behind) == list(range(3, 123))
        made = await redis.call("LRANGE", "made", 0, -1)
        assert [int(number) for number in made] == [0, *range(121)]


async def is_long(redis: RedisServer, key: str, length: int) -> bool:
    return int(await redis.call("LLEN", key)) == length


@pytest.mark.slow
async def test_a_call_that_redis_refuses_has_its_error_and_costs_no_other() -> None:
    async with redis_server() as redis, calling(redis.port) as calls:
        refused = calls.put(("LLEN",))
        beside = calls.put(("ECHO", "beside"))

        with pytest.raises(ResponseError):
            await refused
        assert await beside == b"beside"
        with pytest.raises(BrokerUnavailable):
            await calls.ask(("LLEN",))
        assert calls.up
