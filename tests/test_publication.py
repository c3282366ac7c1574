"""What becomes of messages that were put together: who is told, and when."""

import asyncio
from typing import Any

import pytest

from switchboard_operator.broker.base import Receipt
from switchboard_operator.broker.publication import Publication, future_of


def test_who_asked_is_told_as_soon_as_the_last_is_confirmed() -> None:
    told: list[Receipt] = []
    publication = Publication(2)
    publication.add_done_callback(lambda done: told.append(done.result()))

    publication.confirm("a:1", repeated=False)
    before = told[:]
    publication.confirm("a:2", repeated=False)

    assert before == []
    assert told == [Receipt(True, ("a:1", "a:2"))]


def test_who_asks_late_is_told_at_once() -> None:
    told: list[Publication] = []
    publication = Publication(1)
    publication.confirm("", repeated=True)

    publication.add_done_callback(told.append)

    assert told == [publication]
    assert publication.result() == Receipt(True, ("",), repeated=True)


def test_who_asks_last_is_told_alone() -> None:
    first: list[Publication] = []
    last: list[Publication] = []
    publication = Publication(1)
    publication.add_done_callback(first.append)
    publication.add_done_callback(last.append)

    publication.confirm("a:1", repeated=False)

    assert (first, last) == ([], [publication])


def test_there_is_no_result_before_that() -> None:
    publication = Publication(1)

    assert not publication.done()
    with pytest.raises(asyncio.InvalidStateError):
        publication.result()


async def test_it_can_be_awaited() -> None:
    publication = Publication(1)
    waiter = asyncio.ensure_future(publication)
    await asyncio.sleep(0)

    publication.confirm("a:1", repeated=False)

    assert (await waiter).ids == ("a:1",)


async def test_who_leaves_is_not_told() -> None:
    publication = Publication(1)
    left = future_of(publication)
    left.cancel()

    publication.confirm("a:1", repeated=False)

    assert left.cancelled()
    assert publication.done()


async def test_a_bug_of_who_is_told_is_the_loops_to_tell_and_stops_nobody() -> None:
    caught: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: caught.append(context))
    publication = Publication(1)

    def tell(_done: Publication) -> None:
        raise RuntimeError("planted")

    publication.add_done_callback(tell)
    publication.confirm("a:1", repeated=False)

    [context] = caught
    assert str(context["exception"]) == "planted"
    assert publication.done()
