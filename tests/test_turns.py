"""Whether users get answers, and how soon."""

import asyncio
import time

import pytest

from switchboard_operator.connections import Connections
from switchboard_operator.delivery_sample import DeliverySample
from switchboard_operator.downlink import Downlink
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics
from switchboard_operator.turns import Turns
from tests.conftest import Run
from tests.fakes import FakeConcierge, Incoming
from tests.switchboards import SESSION, Switchboard, eventually, switchboard

pytestmark = pytest.mark.slow  # each waits to see what happens, or does not

SECOND = "0b9e5b52-93a5-4a43-8f53-2d4c8d0f6a77"
SOON = Limits(unanswered=2)


async def replies(board: Switchboard) -> float:
    return await board.metric("switchboard_first_reply_seconds_count")


async def unanswered(board: Switchboard) -> float:
    return await board.metric("switchboard_unanswered_turns_total")


async def none_is_open(board: Switchboard) -> None:
    """Wait until what was said by now is counted, if it is at all: what is said next is later."""
    before = await unanswered(board)
    user = await board.connect(SECOND)
    await user.send_json({"message": "Is anybody there?"})

    async def counted() -> bool:
        return await unanswered(board) > before

    await eventually(counted)
    await user.close()


# Turns that are answered


async def test_the_next_postback_answers_and_its_time_is_that_from_the_message(
    run: Run, concierge: FakeConcierge
) -> None:
    async with run() as board:
        user = await board.connect()
        began = time.monotonic()
        await user.send_json({"message": "hello"})
        await concierge.has_accepted(1)
        await asyncio.sleep(0.2)  # the time that is to be measured

        await board.postback({"to": SESSION, "body": "hello yourself"})
        await user.receive()
        took = time.monotonic() - began

        assert await replies(board) == 1
        measured = await board.metric("switchboard_first_reply_seconds_sum")
        assert 0.19 < measured < took + 0.01


async def test_only_the_first_postback_after_a_message_answers_it(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    user = await board.connect()
    await user.send_json({"message": "hello"})
    await concierge.has_accepted(1)

    for number in range(3):
        await board.postback({"to": SESSION, "n": number})

    assert await replies(board) == 1


async def test_messages_that_wait_for_an_answer_are_one_turn(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    user = await board.connect()
    for number in range(3):
        await user.send_json({"message": f"hello {number}"})
    await concierge.has_accepted(3)

    await board.postback({"to": SESSION, "body": "one at a time"})

    assert await replies(board) == 1


async def test_a_turn_begins_with_its_first_message() -> None:
    with Turns(Metrics("test"), 0.3) as turns:
        began = time.monotonic()
        turns.begin(SESSION)

        while turns.waits(SESSION):  # somebody who goes on and on, and is not answered
            await asyncio.sleep(0.01)
            if turns.waits(SESSION):
                turns.begin(SESSION)

        assert time.monotonic() - began < 60  # it would go on for ever


async def test_a_postback_to_who_has_said_nothing_answers_nothing(board: Switchboard) -> None:
    await board.connect()

    await board.postback({"to": SESSION, "body": "hello"})

    assert await replies(board) == 0


async def test_a_postback_to_somebody_else_answers_nothing(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    user = await board.connect()
    await user.send_json({"message": "hello"})
    await concierge.has_accepted(1)

    await board.postback({"to": SECOND, "body": "hello"})

    assert await replies(board) == 0


async def test_who_has_left_is_answered_all_the_same(run: Run, concierge: FakeConcierge) -> None:
    async with run() as board:
        user = await board.connect()
        await user.send_json({"message": "hello"})
        await concierge.has_accepted(1)
        await user.close()

        async def is_gone() -> bool:
            return await board.metric("switchboard_connections", wire="classic") == 0

        await eventually(is_gone)
        await board.postback({"to": SESSION, "body": "hello"})

        async def answered() -> bool:
            return await replies(board) == 1

        await eventually(answered)


async def test_a_bot_that_answers_before_it_says_that_it_will_has_answered(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url, SOON) as board:

        async def answer_at_once(incoming: Incoming) -> int:
            if incoming.content["From"] == SESSION:
                await board.postback({"to": SESSION, "body": "hello"})
            return 204

        concierge.answer = answer_at_once
        user = await board.connect()

        await user.send_json({"message": "hello"})
        await concierge.has_accepted(1)
        await none_is_open(board)

        assert await replies(board) == 1
        assert await unanswered(board) == 1  # the one by which we waited


# Turns that are not


async def test_a_message_without_a_postback_in_time_is_unanswered_and_what_comes_later_is_no_answer(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url, SOON) as board:
        user = await board.connect()
        began = time.monotonic()
        await user.send_json({"message": "hello"})

        async def counted() -> bool:
            return await unanswered(board) == 1

        await eventually(counted)
        assert time.monotonic() - began > 1.99
        await board.postback({"to": SESSION, "body": "sorry"})

        assert await replies(board) == 0


@pytest.mark.slow
async def test_a_bot_has_60_s_to_answer(board: Switchboard) -> None:
    user = await board.connect()
    began = time.monotonic()
    await user.send_json({"message": "hello"})

    async def counted() -> bool:
        return await unanswered(board) == 1

    await eventually(counted, pause=0.2)

    assert 59.5 < time.monotonic() - began < 90


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_what_the_concierge_did_not_accept_expects_no_answer(
    concierge: FakeConcierge, status: int
) -> None:
    async def refuse(incoming: Incoming) -> int:
        return status if incoming.content["From"] == SESSION else 204

    concierge.answer = refuse
    async with switchboard(concierge.url, Limits(unanswered=2, retry_total=0)) as board:
        user = await board.connect()
        await user.send_json({"message": "hello"})
        await concierge.has_received(1)

        await none_is_open(board)

        assert await unanswered(board) == 1  # the one by which we waited


async def test_answers_that_may_have_gone_unheard_are_not_counted_as_missing() -> None:
    metrics, table = Metrics("test"), Connections(Limits())
    with Turns(metrics, 60) as turns:
        downlink = Downlink(table, turns, DeliverySample(metrics, 10), metrics)
        turns.begin(SESSION)

        downlink.resync()

        assert not turns.waits(SESSION)


# What it costs


async def test_each_turn_is_counted_once_and_none_is_kept() -> None:
    metrics = Metrics("test")
    sessions = [f"session {number}" for number in range(1000)]
    with Turns(metrics, 0.1) as turns:
        for session in sessions:
            turns.begin(session)
            await asyncio.sleep(0)  # they do not all begin at once

        await eventually(lambda: not any(map(turns.waits, sessions)))

        assert b"switchboard_unanswered_turns_total 1000.0\n" in metrics.exposition()


async def test_a_turn_that_begins_after_others_were_counted_has_its_own_time() -> None:
    with Turns(Metrics("test"), 0.1) as turns:
        turns.begin(SESSION)
        await eventually(lambda: not turns.waits(SESSION))
        began = time.monotonic()

        turns.begin(SECOND)
        await eventually(lambda: not turns.waits(SECOND))

        assert time.monotonic() - began > 0.09
