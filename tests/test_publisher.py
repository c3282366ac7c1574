"""How many batches are under way to Redis, and what becomes of them when one is in trouble."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import json
from redis.exceptions import ResponseError

from switchboard_operator.broker import scripts
from switchboard_operator.broker.publication import Publication
from switchboard_operator.broker.publisher import SIDE_BY_SIDE, SURE, Publisher
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
        self.sent: list[tuple[bytes, Callable[[list[Any]], None]]] = []
        self.again: list[bytes] = []  # what the task sent itself …
        self.refuses: Callable[[bytes], bool] = lambda _: False  # … and whether it is refused

    def check(self) -> None:
        """It does not break."""

    def send(self, commands: Sequence[Command], take: Callable[[list[Any]], None]) -> None:
        [command] = commands
        self.sent.append((packed(command), take))

    async def call(self, *_command: str | bytes | int) -> Any:
        return 0

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        [command] = commands
        if not isinstance(command, bytes):
            return [[1, b""]]
        self.again.append(command)
        refused = ResponseError("refused") if self.refuses(command) else None
        return [refused or self._published(command)]

    def answer(self, error: Exception | None = None) -> None:
        """Answer the oldest batch that is not answered."""
        command, take = self.sent.pop(0)
        take([error if error is not None else self._published(command)])

    @staticmethod
    def _published(command: bytes) -> list[bytes]:
        return [b"e:1"] * command.count(b'{"to"')


@asynccontextmanager
async def publishing(most: int = SURE) -> AsyncIterator[tuple[Publisher, SlowLink]]:
    """Run a publisher whose batches have *most* messages at most."""
    link = SlowLink()

    @asynccontextmanager
    async def open_link() -> AsyncIterator[Any]:
        yield link

    publisher = Publisher(open_link, RULES, Limits(batch_messages=most), Metrics("test"))
    publisher.resume()
    task = asyncio.create_task(publisher.run())
    await eventually(lambda: publisher.up)
    yield publisher, link
    task.cancel()
    await asyncio.wait({task})


def put(publisher: Publisher, first: int, count: int) -> Publication:
    return publisher.put([postback(SESSION, number) for number in range(first, first + count)])


def leave(publisher: Publisher, first: int, count: int) -> None:
    put(publisher, first, count).done()  # nobody waits for it


async def turn() -> None:
    """Let all that is due in this turn of the loop happen."""
    await asyncio.sleep(0)


async def test_what_is_put_in_one_turn_of_the_loop_is_one_batch() -> None:
    async with publishing() as (publisher, link):
        for first in range(3):
            leave(publisher, first, 1)
        assert not link.sent
        await turn()

        [(command, _)] = link.sent
        assert re.findall(rb'"n":(\d+)', command) == [b"0", b"1", b"2"]
        link.answer()
        assert publisher.held == 0


async def test_a_batch_goes_out_behind_one_that_is_under_way_and_no_third() -> None:
    async with publishing() as (publisher, link):
        leave(publisher, 0, 3 * SURE)
        await turn()
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
        await turn()
        leave(publisher, 100, second)
        await turn()

        assert len(link.sent) == 1
        link.answer()
        assert len(link.sent) == 1


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (2 * SURE - 1, [2 * SURE - 1]),
        (2 * SURE + 1, [SURE, SURE + 1]),
        (SIDE_BY_SIDE, [SIDE_BY_SIDE // 2, SIDE_BY_SIDE // 2]),
        (SIDE_BY_SIDE + 1, [SIDE_BY_SIDE + 1]),
    ],
)
async def test_of_what_is_put_side_by_side_half_goes_out_behind_the_other_half(
    count: int, sizes: list[int]
) -> None:
    async with publishing(most=500) as (publisher, link):
        leave(publisher, 0, count)
        await turn()

        assert [command.count(b'{"to"') for command, _ in link.sent] == sizes
        for _ in sizes:
            link.answer()


@pytest.mark.parametrize(("count", "brought"), [(SURE - 1, False), (SURE, True)])
async def test_a_batch_that_another_may_follow_brings_the_script_along(
    count: int, brought: bool
) -> None:
    async with publishing() as (publisher, link):
        leave(publisher, 0, count)
        await turn()

        [(command, _)] = link.sent
        assert (EVAL in command, EVALSHA in command) == (brought, not brought)
        link.answer()


async def test_a_batch_in_trouble_and_the_one_behind_it_are_sorted_out_in_order() -> None:
    async with publishing() as (publisher, link):
        done = [put(publisher, 0, SURE), put(publisher, 100, SURE)]
        await turn()

        link.answer(ResponseError("BUSY"))
        assert not link.again  # the other may have been run
        link.answer()
        receipts = await asyncio.gather(*done)

        [command] = link.again
        found = re.findall(rb'"n":(\d+)', command)
        assert [int(number) for number in found] == [*range(SURE), *range(100, 100 + SURE)]
        assert not any(receipt.repeated for receipt in receipts)
        assert publisher.held == 0


async def test_what_redis_refuses_together_it_is_asked_to_publish_one_by_one() -> None:
    async with publishing() as (publisher, link):
        link.refuses = lambda command: command.count(b'{"to"') > 1
        done = put(publisher, 0, 3)
        await turn()

        link.answer(ResponseError("CROSSSLOT"))
        receipt = await done

        found = [re.findall(rb'"n":(\d+)', command) for command in link.again]
        assert found == [[b"0", b"1", b"2"], [b"0"], [b"1"], [b"2"]]
        assert not receipt.repeated
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
