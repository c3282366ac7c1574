"""What pongs prove, and which of them answer."""

from typing import Final

import pytest

from switchboard_operator.marks import NOWHERE, Mark
from switchboard_operator.receipts import Receipts


def having_written(number: int, epoch: str = "a") -> Receipts:
    receipts = Receipts()
    receipts.written = Mark(epoch, number)
    return receipts


# What is proven


def test_where_nothing_was_written_nothing_is_missing() -> None:
    receipts = Receipts()

    assert receipts.complete
    assert receipts.payload == b""


def test_a_ping_carries_the_last_id_written() -> None:
    receipts = having_written(41, "k3f9")

    assert receipts.payload == b"k3f9:41"
    assert not receipts.complete


def test_a_pong_proves_the_id_in_it_once() -> None:
    receipts = having_written(5)

    proven = [receipts.pong(b"a:5", 1.0), receipts.pong(b"a:5", 2.0)]

    assert proven == [Mark("a", 5), None]
    assert receipts.complete


def test_a_pong_of_an_earlier_ping_proves_what_that_one_said() -> None:
    receipts = having_written(3)
    receipts.pinged(1.0)
    receipts.written = Mark("a", 5)

    proven = receipts.pong(b"a:3", 2.0)

    assert proven == Mark("a", 3)
    assert (receipts.proven, receipts.complete) == (Mark("a", 3), False)


def test_what_is_proven_stays_proven() -> None:
    receipts = having_written(5)
    receipts.pong(b"a:5", 1.0)

    proven = receipts.pong(b"a:3", 2.0)

    assert proven is None
    assert receipts.proven == Mark("a", 5)


WORTHLESS: Final[dict[str, bytes]] = {
    "empty": b"",
    "no id": b"hello",
    "not ASCII": b"\xff\xfe:5",
    "digits of another script": "a:\u0665".encode(),
    "not written yet": b"a:6",
    "far ahead": b"a:999999999999999",
    "another epoch": b"b:1",
    "longest that a ping may carry": b"a" * 125,
}


@pytest.mark.parametrize("payload", WORTHLESS.values(), ids=WORTHLESS)
def test_any_other_payload_proves_nothing(payload: bytes) -> None:
    receipts = having_written(5)

    proven = receipts.pong(payload, 1.0)

    assert proven is None
    assert (receipts.proven, receipts.complete) == (NOWHERE, False)


def test_before_anything_is_written_no_pong_proves_anything() -> None:
    receipts = Receipts()

    assert receipts.pong(b"a:1", 1.0) is None
    assert receipts.proven == NOWHERE


def test_an_epoch_that_is_over_proves_nothing() -> None:
    receipts = having_written(5)
    receipts.pinged(1.0)
    receipts.written = Mark("b", 7)

    proven = receipts.pong(b"a:5", 2.0)

    assert proven is None
    assert not receipts.complete


def test_a_new_epoch_is_proven_though_its_numbers_are_lower() -> None:
    receipts = having_written(5)
    receipts.pong(b"a:5", 1.0)
    receipts.written = Mark("b", 2)

    proven = receipts.pong(b"b:2", 2.0)

    assert proven == Mark("b", 2)
    assert receipts.complete


def test_that_all_arrived_proves_all_that_was_written_once() -> None:
    receipts = having_written(5)

    proven = [receipts.all_arrived(), receipts.all_arrived()]

    assert proven == [Mark("a", 5), None]
    assert receipts.complete


def test_that_all_arrived_proves_nothing_where_nothing_was_written() -> None:
    assert Receipts().all_arrived() is None


# Which ping waits for its answer


def test_a_ping_waits_from_when_it_was_sent() -> None:
    receipts = Receipts()

    receipts.pinged(1.0)

    assert (receipts.asked_at, receipts.pinged_at) == (1.0, 1.0)


def test_of_several_pings_the_oldest_counts() -> None:
    receipts = having_written(5)
    receipts.pinged(1.0)

    receipts.written = Mark("a", 6)
    receipts.pinged(4.0)

    assert (receipts.asked_at, receipts.pinged_at) == (1.0, 4.0)


def test_who_answers_the_latest_ping_has_answered_all() -> None:
    receipts = having_written(5)
    receipts.pinged(1.0)
    receipts.written = Mark("a", 6)
    receipts.pinged(4.0)

    receipts.pong(b"a:6", 5.0)

    assert receipts.asked_at is None


def test_who_answers_an_earlier_ping_has_time_for_the_next_from_then_on() -> None:
    receipts = having_written(5)
    receipts.pinged(1.0)
    receipts.written = Mark("a", 6)
    receipts.pinged(4.0)

    receipts.pong(b"a:5", 5.0)

    assert receipts.asked_at == 5.0


def test_the_latest_ping_is_answered_whatever_was_written_after_it() -> None:
    receipts = having_written(5)
    receipts.pinged(1.0)
    receipts.written = Mark("a", 6)

    receipts.pong(b"a:5", 2.0)

    assert receipts.asked_at is None


def test_a_pong_that_answers_nothing_leaves_nothing_to_wait_for() -> None:
    receipts = having_written(5)

    receipts.pong(b"unasked", 1.0)

    assert receipts.asked_at is None


def test_after_an_answer_the_next_ping_waits_from_when_it_was_sent() -> None:
    receipts = Receipts()
    receipts.pinged(1.0)
    receipts.pong(b"", 2.0)

    receipts.pinged(7.0)

    assert receipts.asked_at == 7.0
