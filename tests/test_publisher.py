"""How many batches are under way to Redis, and what becomes of them when one is in trouble."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import json
from redis.exceptions import ResponseError

from switchboard_operator.broker import scripts
from switchboard_operator.broker.publisher import SURE, Publisher
from switchboard_operator.broker.resp import Command, packed
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics
from tests.brokers import RULES, instance, postback
from tests.redis_server import redis_server
from tests.switchboards import SESSION, eventually

EVALSHA = scripts.PUBLISH.sha.encode()
EVAL = scripts.PUBLISH.text.encode()


class SlowLink:
    """A link whose batches are answered when the test says so; all else at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[bytes], Callable[[list[Any]], None]]] = []
        self.numbers = 0
        self.again: list[bytes] = []  # what the task sent itself

    def check(self) -> None:
        """It does not break."""

    def send(self, commands: Sequence[Command], take: Callable[[list[Any]], None]) -> None:
        self.sent.append(([packed(command) for command in commands], take))

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        ours = [packed(command) for command in commands if isinstance(command, bytes)]
        published = [command for command in ours if EVALSHA in command]
        self.again += published
        results = [self._published() for _ in published]
        if len(commands) > 1:
            return [b"OK", *[b"QUEUED"] * len(results), results]
        return results or [[1, b""]]

    def answer(self, error: Exception | None = None) -> None:
        """Answer the oldest batch that is not answered."""
        commands, take = self.sent.pop(0)
        count = len(commands) if len(commands) == 1 else len(commands) - 2
        results = [error if error is not None else self._published() for _ in range(count)]
        take(results if count == 1 else [b"OK", *[b"QUEUED"] * count, results])

    def _published(self) -> list[Any]:
        self.numbers += 1
        return [b"e:%d" % self.numbers, 0]


@asynccontextmanager
async def publishing() -> AsyncIterator[tuple[Publisher, SlowLink]]:
    link = SlowLink()

    @asynccontextmanager
    async def open_link() -> AsyncIterator[Any]:
        yield link

    publisher = Publisher(open_link, RULES, Limits(), Metrics("test"))
    publisher.resume()
    task = asyncio.create_task(publisher.run())
    await eventually(lambda: publisher.up)
    yield publisher, link
    task.cancel()
    await asyncio.wait({task})


def put(publisher: Publisher, first: int, count: int) -> asyncio.Future[Any]:
    return publisher.put([postback(SESSION, number) for number in range(first, first + count)])


def leave(publisher: Publisher, first: int, count: int) -> None:
    put(publisher, first, count).cancelled()  # nobody waits for it


async def test_a_batch_goes_out_behind_one_that_is_under_way_and_no_third() -> None:
    async with publishing() as (publisher, link):
        leave(publisher, 0, SURE)
        leave(publisher, 100, SURE)
        leave(publisher, 200, SURE)
        assert len(link.sent) == 2

        link.answer()
        assert len(link.sent) == 2
        link.answer()
        link.answer()

        assert publisher.held == 0


@pytest.mark.parametrize(("first", "second"), [(SURE - 1, SURE), (SURE, SURE - 1), (1, 1)])
async def test_a_batch_that_may_find_the_script_unknown_is_alone_under_way(
    first: int, second: int
) -> None:
    async with publishing() as (publisher, link):
        leave(publisher, 0, first)
        leave(publisher, 100, second)

        assert len(link.sent) == 1
        link.answer()
        assert len(link.sent) == 1


async def test_two_that_are_under_way_bring_the_script_with_them() -> None:
    async with publishing() as (publisher, link):
        leave(publisher, 0, SURE)
        leave(publisher, 100, SURE)

        for commands, _ in link.sent:
            assert EVAL in commands[1]
            assert all(EVALSHA in command for command in commands[2:-1])


async def test_a_batch_in_trouble_and_the_one_behind_it_are_sorted_out_in_order() -> None:
    async with publishing() as (publisher, link):
        done = [put(publisher, 0, SURE), put(publisher, 100, SURE)]
        sent = [command for commands, _ in link.sent for command in commands[1:-1]]

        link.answer(ResponseError("BUSY"))
        assert not link.again  # the other may have been run
        link.answer()
        receipts = await asyncio.gather(*done)

        assert len(link.again) == len(sent)
        assert [command[-200:] for command in link.again] == [command[-200:] for command in sent]
        assert not any(receipt.repeated for receipt in receipts)
        assert publisher.held == 0


@pytest.mark.slow
async def test_scripts_that_redis_forgets_meanwhile_do_not_turn_the_order_round() -> None:
    async with redis_server() as redis, instance(redis.url) as here:
        await eventually(lambda: here.broker.health().listening)
        done = []
        for first in range(0, 2000, 40):
            done.append(
                here.broker.put([postback(SESSION, number) for number in range(first, first + 40)])
            )
            if first % 200 == 0:
                await redis.call("SCRIPT", "FLUSH")
            await asyncio.sleep(0)
        receipts = await asyncio.gather(*done)
        heard = await here.ear.hears(2000)

    assert [json.decode(delivery.body)["n"] for delivery in heard] == list(range(2000))
    assert not any(receipt.repeated for receipt in receipts)
