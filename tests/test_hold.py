"""What waits for Redis: order, counts, bounds, batches, and what those who wait are told."""

import asyncio
import dataclasses

import pytest

from switchboard_operator.broker.base import Receipt
from switchboard_operator.broker.hold import Hold
from switchboard_operator.broker.publication import future_of
from switchboard_operator.broker.publish_command import PublishCommand
from switchboard_operator.errors import BrokerFull
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import SHORTEST
from switchboard_operator.messages import Postback
from tests import test_connections

RULES = dataclasses.replace(test_connections.RULES, once_lifetime=1800)
SIZE = 20  # bytes in a body
MAILBOX_OWNER = "a" * SHORTEST
PLENTY = 10_000  # bytes


def hold(*, postbacks: int = 100, size: int = PLENTY, batch: int = 100) -> Hold:
    limits = Limits(held_postbacks=postbacks, held_bytes=size, batch_messages=batch)
    return Hold(PublishCommand(RULES), limits)


def postback(number: int, size: int = SIZE) -> Postback:
    return Postback(MAILBOX_OWNER, (b'{"number":%d}' % number).ljust(size), str(number))


def postbacks(count: int) -> list[Postback]:
    return [postback(number) for number in range(count)]


def put(hold: Hold, *postbacks: Postback) -> None:
    hold.put(postbacks).done()  # nobody waits for it


def put_probe(hold: Hold, probe: Postback) -> None:
    hold.put_probe(probe).done()


def bodies(hold: Hold, most_bytes: int = PLENTY) -> list[bytes]:
    return [entry.body for entry in hold.batch(most_bytes)]


def confirm(hold: Hold, count: int = 1) -> None:
    for _ in range(count):
        hold.confirm_first("", repeated=False)


async def test_messages_go_in_the_order_in_which_they_were_put() -> None:
    waiting = hold()
    first, second, probe, third = postbacks(4)

    put(waiting, first, second)
    put_probe(waiting, probe)
    put(waiting, third)

    assert bodies(waiting) == [first.body, second.body, probe.body, third.body]


async def test_what_is_confirmed_leaves_from_the_head_and_what_is_not_stays() -> None:
    waiting = hold()
    three = postbacks(3)
    put(waiting, *three)

    heads = [bodies(waiting), bodies(waiting)]
    confirm(waiting)
    heads.append(bodies(waiting))

    everything = [each.body for each in three]
    assert heads == [everything, everything, everything[1:]]


async def test_postbacks_are_held_until_they_are_confirmed_and_probes_never_are() -> None:
    waiting = hold()
    put(waiting, *postbacks(2))
    put_probe(waiting, postback(2))
    put(waiting, postback(3))

    counts = [(waiting.held, len(waiting))]
    for _ in range(4):
        confirm(waiting)
        counts.append((waiting.held, len(waiting)))

    assert counts == [(3, 4), (2, 3), (1, 2), (1, 1), (0, 0)]


@pytest.mark.parametrize(
    "room", [{"postbacks": 3}, {"size": 3 * SIZE}], ids=["by number", "by bytes"]
)
async def test_what_does_not_fit_is_refused_as_a_whole_until_others_are_confirmed(
    room: dict[str, int],
) -> None:
    full = hold(**room)
    put(full, *postbacks(2))

    with pytest.raises(BrokerFull):
        put(full, postback(2), postback(3))
    put(full, postback(4))
    with pytest.raises(BrokerFull):
        put(full, postback(5))
    confirm(full)
    put(full, postback(6))

    assert bodies(full) == [postback(number).body for number in (1, 4, 6)]


@pytest.mark.parametrize("room", [{"postbacks": 1}, {"size": SIZE}], ids=["by number", "by bytes"])
async def test_a_probe_finds_room_and_takes_none(room: dict[str, int]) -> None:
    full = hold(**room)
    put_probe(full, postback(0))
    put(full, postback(1))
    put_probe(full, postback(2))

    confirm(full)

    with pytest.raises(BrokerFull):
        put(full, postback(3))
    confirm(full)
    put(full, postback(4))
    assert bodies(full) == [postback(2).body, postback(4).body]


async def test_a_batch_has_a_number_of_messages_at_most() -> None:
    waiting = hold(batch=2)

    put(waiting, *postbacks(3))

    assert bodies(waiting) == [postback(0).body, postback(1).body]


@pytest.mark.parametrize(
    ("most_bytes", "count"),
    [(3 * SIZE, 3), (3 * SIZE - 1, 2), (SIZE, 1), (1, 1)],
    ids=["all", "a byte too many", "one", "the first, however long"],
)
async def test_a_batch_has_a_number_of_bytes_at_most(most_bytes: int, count: int) -> None:
    waiting = hold()

    put(waiting, *postbacks(3))

    assert len(waiting.batch(most_bytes)) == count


async def test_each_publication_is_told_its_ids_once_all_of_it_is_confirmed() -> None:
    waiting = hold()
    one, two = waiting.put([postback(0)]), waiting.put([postback(1), postback(2)])

    done = []
    for id_ in ("a:1", "a:2", ""):
        waiting.confirm_first(id_, repeated=False)
        done.append((one.done(), two.done()))

    assert done == [(True, False), (True, False), (True, True)]
    assert one.result() == Receipt(True, ("a:1",), repeated=False)
    assert two.result() == Receipt(True, ("a:2", ""), repeated=False)


@pytest.mark.parametrize(
    ("before", "repeated"),
    [((True, True), True), ((True, False), False), ((False, True), False)],
    ids=["all", "the first", "the last"],
)
async def test_a_publication_is_repeated_if_all_of_it_is(
    before: tuple[bool, bool], repeated: bool
) -> None:
    waiting = hold()
    published = waiting.put(postbacks(2))

    for each in before:
        waiting.confirm_first("", repeated=each)

    assert published.result().repeated == repeated


async def test_what_redis_may_have_had_from_us_is_not_repeated() -> None:
    waiting = hold()
    ours, theirs = waiting.put([postback(0)]), waiting.put([postback(1)])
    waiting.batch(PLENTY)[0].in_doubt = True

    for _ in range(2):
        waiting.confirm_first("", repeated=True)

    assert (ours.result().repeated, theirs.result().repeated) == (False, True)


async def test_a_hold_without_postbacks_is_empty_whatever_probes_wait() -> None:
    waiting = hold()
    put_probe(waiting, postback(0))

    await waiting.emptied()

    assert len(waiting) == 1


async def test_who_waits_for_it_to_be_empty_goes_on_after_the_last_postback() -> None:
    waiting = hold()
    put(waiting, *postbacks(2))
    emptied = asyncio.create_task(waiting.emptied())

    went_on = []
    for number in (2, 3):
        confirm(waiting, waiting.held)
        put(waiting, postback(number))  # before anybody can look
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        went_on.append(emptied.done())
    confirm(waiting)
    await emptied

    assert went_on == [False, False]


async def test_who_puts_postbacks_and_leaves_holds_nobody_up() -> None:
    waiting = hold()
    left, stayed = future_of(waiting.put([postback(0)])), waiting.put([postback(1)])

    left.cancel()
    confirm(waiting, 2)

    assert stayed.result().confirmed
    assert waiting.held == 0
