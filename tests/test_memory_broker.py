"""What a broker in memory remembers of what was published, and what it forgets for lack of room."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from switchboard_operator.broker.base import Receipt
from switchboard_operator.marks import Mark
from tests.brokers import LIMITS, Instance, instance, postback
from tests.switchboards import SESSION

MOST = 3  # keys


@pytest.fixture
async def here() -> AsyncIterator[Instance]:
    """A broker in memory that knows the latest MOST keys."""
    async with instance(None, dataclasses.replace(LIMITS, once=MOST)) as started:
        yield started


async def published(here: Instance, count: int) -> list[Mark | None]:
    """Publish postbacks 1 to *count*, one by one; return their ids."""
    receipts = [await here.publish(postback(SESSION, number + 1)) for number in range(count)]
    return [receipt.marks[0] for receipt in receipts]


async def again(here: Instance, *numbers: int) -> list[Receipt]:
    return [await here.publish(postback(SESSION, number)) for number in numbers]


async def test_the_latest_keys_are_recognised_and_keep_their_ids(here: Instance) -> None:
    ids = await published(here, MOST + 2)

    receipts = await again(here, 5, 4, 3)

    assert all(receipt.repeated for receipt in receipts)
    assert [receipt.marks for receipt in receipts] == [(ids[4],), (ids[3],), (ids[2],)]
    assert len(await here.ear.hears(5)) == 5


async def test_beyond_the_bound_the_oldest_key_is_forgotten_and_its_postback_a_new_one(
    here: Instance,
) -> None:
    ids = await published(here, MOST + 1)

    [anew] = await again(here, 1)

    assert ids[-1] is not None
    assert not anew.repeated
    assert anew.marks == (Mark(ids[-1].epoch, MOST + 2),)
    assert (await here.ear.hears(5))[-1].body == postback(SESSION, 1).body


async def test_a_key_that_is_forgotten_makes_room_for_no_more_than_one(here: Instance) -> None:
    await published(here, MOST + 1)
    await again(here, 1)  # which takes the place of 2

    receipts = await again(here, 3, 4, 1, 2)

    assert [receipt.repeated for receipt in receipts] == [True, True, True, False]


async def test_a_repetition_makes_a_key_no_younger(here: Instance) -> None:
    await published(here, MOST)
    await again(here, 1)

    await here.publish(postback(SESSION, MOST + 1))

    assert [receipt.repeated for receipt in await again(here, 2, 3, 1)] == [True, True, False]


async def test_the_bound_holds_for_all_sessions_together(here: Instance) -> None:
    await here.publish(postback(SESSION, 1))
    for number in range(MOST):
        await here.publish(postback(f"{SESSION}-{number}", 1))

    [first] = await again(here, 1)

    assert not first.repeated
