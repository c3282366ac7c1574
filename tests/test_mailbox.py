"""What a broker promises of publishing and mailboxes, be it in memory or on a real Redis."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from switchboard_operator import marks
from switchboard_operator.broker.base import Claim
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import EMPTY, Page
from switchboard_operator.marks import ELSEWHERE, NOWHERE, Mark
from switchboard_operator.messages import Postback
from tests.brokers import LIMITS, Instance, instance, postback, sized
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import eventually

Start = Callable[..., Awaitable[Instance]]

IN_MEMORY_AND_ON_REDIS = ["memory", pytest.param("redis", marks=pytest.mark.slow)]
SHORT = "under-16-chars"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    """One Redis for all: nothing here breaks it, and each test has a session of its own."""
    async with redis_server() as server:
        yield server


@pytest.fixture(params=IN_MEMORY_AND_ON_REDIS)
def url(request: pytest.FixtureRequest) -> str | None:
    """The Redis to use, or None for a broker in memory."""
    if request.param == "memory":
        return None
    server: RedisServer = request.getfixturevalue("redis")
    return server.url


@pytest.fixture
async def start(url: str | None) -> AsyncIterator[Start]:
    """Start instances, as `brokers.instance` does; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start_one(limits: Limits = LIMITS, **rules: int) -> Instance:
            return await stack.enter_async_context(instance(url, limits, **rules))

        yield start_one


@pytest.fixture
def session() -> str:
    """A session that no other test knows."""
    return str(uuid.uuid4())


def numbers(*counted: Mark | None) -> list[int]:
    return [mark.number for mark in counted if mark is not None]


def bodies(session: str, *which: int) -> tuple[bytes, ...]:
    return tuple(postback(session, number).body for number in which)


async def published(here: Instance, session: str, count: int) -> str:
    """Publish *count* postbacks, numbered like their ids; return the epoch."""
    receipt = await here.publish(*(postback(session, number + 1) for number in range(count)))
    first = receipt.marks[0]
    assert first is not None
    assert numbers(*receipt.marks) == list(range(1, count + 1))
    return first.epoch


# Publishing


async def test_ids_count_from_one_in_each_session_and_say_so_to_who_listens(
    start: Start, session: str
) -> None:
    here, other = await start(), f"{session}-other"

    receipts = [
        await here.publish(postback(who, number)) for number in range(3) for who in (session, other)
    ]
    heard = await here.ear.hears(6)

    given = [receipt.marks[0] for receipt in receipts]
    assert all(receipt.confirmed and not receipt.repeated for receipt in receipts)
    assert numbers(*given) == [1, 1, 2, 2, 3, 3]
    assert [delivery.mark for delivery in heard] == given
    assert [delivery.session for delivery in heard] == [session, other] * 3
    epochs = {(delivery.session, delivery.mark.epoch) for delivery in heard if delivery.mark}
    assert len(epochs) == len({epoch for _, epoch in epochs}) == 2


async def test_what_was_published_before_keeps_its_id_and_is_not_delivered_again(
    start: Start, session: str
) -> None:
    here = await start()
    once = await here.publish(postback(session, 1))
    await here.publish(postback(session, 2))

    again = await here.publish(postback(session, 1))
    after = await here.publish(postback(session, 3))
    heard = await here.ear.hears(3)

    assert again.confirmed
    assert again.repeated
    assert again.marks == once.marks
    assert numbers(*after.marks) == [3]
    assert tuple(delivery.body for delivery in heard) == bodies(session, 1, 2, 3)
    assert (await here.read(session)).bodies == bodies(session, 1, 2, 3)


async def test_what_is_put_is_published_in_order_and_told_when_it_is(
    start: Start, session: str
) -> None:
    here = await start()

    one = here.broker.put([postback(session, 1)])
    two = here.broker.put([postback(session, 2), postback(session, 1)])
    three = here.broker.put([postback(session, 1), postback(session, 2)])
    receipts = await asyncio.gather(one, two, three)

    assert [numbers(*receipt.marks) for receipt in receipts] == [[1], [2, 1], [1, 2]]
    assert [receipt.repeated for receipt in receipts] == [False, False, True]
    assert all(receipt.confirmed for receipt in receipts)
    heard = await here.ear.hears(2)
    assert tuple(delivery.body for delivery in heard) == bodies(session, 1, 2)


async def test_equal_bodies_with_keys_of_their_own_are_as_many_postbacks(
    start: Start, session: str
) -> None:
    here = await start()

    receipts = [await here.publish(postback(session, 1, key=uuid.uuid4().hex)) for _ in range(3)]

    assert [numbers(*receipt.marks) for receipt in receipts] == [[1], [2], [3]]
    assert not any(receipt.repeated for receipt in receipts)
    assert len(await here.ear.hears(3)) == 3
    assert (await here.read(session)).bodies == bodies(session, 1, 1, 1)


async def test_a_key_stands_for_a_postback_of_one_session_only(start: Start, session: str) -> None:
    here, other = await start(), f"{session}-other"
    await here.publish(postback(session, 1, key="the same"))

    receipt = await here.publish(postback(other, 1, key="the same"))

    assert not receipt.repeated
    assert [delivery.session for delivery in await here.ear.hears(2)] == [session, other]


async def test_of_an_array_only_what_is_new_is_delivered(start: Start, session: str) -> None:
    here = await start()
    before = await here.publish(postback(session, 1), postback(session, 2))

    mixed = await here.publish(*(postback(session, number) for number in (3, 2, 4, 3, 1)))
    repeated = await here.publish(*(postback(session, number) for number in (4, 1)))
    await here.publish(postback(session, 5))

    assert not before.repeated
    assert not mixed.repeated
    assert numbers(*mixed.marks) == [3, 2, 4, 3, 1]
    assert repeated.repeated
    assert numbers(*repeated.marks) == [4, 1]
    heard = await here.ear.hears(5)
    assert tuple(delivery.body for delivery in heard) == bodies(session, 1, 2, 3, 4, 5)


async def test_an_array_for_several_sessions_is_delivered_in_its_order(
    start: Start, session: str
) -> None:
    here, other = await start(), f"{session}-other"

    receipt = await here.publish(
        postback(session, 1), postback(other, 2), postback(SHORT, 3), postback(session, 4)
    )
    heard = await here.ear.hears(4)

    assert numbers(*receipt.marks) == [1, 1, 2]
    assert receipt.marks[2] is None
    assert tuple(delivery.mark for delivery in heard) == receipt.marks
    assert [delivery.session for delivery in heard] == [session, other, SHORT, session]


@pytest.mark.slow
async def test_a_key_is_forgotten_after_its_lifetime(start: Start, session: str) -> None:
    here = await start(once_lifetime=3)
    await here.publish(postback(session, 1))

    async def is_new() -> bool:
        return not (await here.publish(postback(session, 1))).repeated

    assert not await is_new()
    await eventually(is_new, pause=0.1)

    assert numbers(*(delivery.mark for delivery in await here.ear.hears(2))) == [1, 2]


@pytest.mark.parametrize("who", ["a session with a mailbox", SHORT])
@pytest.mark.parametrize(
    "form",
    [
        b'{"to":"%s"}',
        b' \t\r\n{ "to" : "%s", "n": 12345678901234567890, "odd": "\\u00e9\\u0000" }\n ',
        '{"to":"%s","text":"é 😀 %% \\\\"}'.encode(),
        b'{"switchboard":"feed:7","to":"%s"}',
        b' \n{"switchboard":"","to":"%s"}',
        b'{"switchboard":"feed:7","switchboard":"feed:8","to":"%s"}',
        b'{"switchboard":7,"to":"%s","to":"%s"}',
        b'{"to":"%s","switchboard":"feed:7"}',
    ],
)
async def test_a_body_arrives_and_is_kept_byte_for_byte_and_no_key_in_it_passes_for_an_id(
    start: Start, session: str, who: str, form: bytes
) -> None:
    here = await start()
    who = session if who != SHORT else SHORT
    body = form.replace(b"%s", who.encode())

    receipt = await here.publish(Postback(who, body, uuid.uuid4().hex))
    [heard] = await here.ear.hears(1)

    assert heard.body == body
    assert heard.session == who
    assert heard.mark == receipt.marks[0]
    assert (await here.read(who)).bodies == (() if who == SHORT else (body,))


@pytest.mark.parametrize(
    ("size", "who"), [(0, "x" * 36), (5, "x" * 15)], ids=["size 0", "short id"]
)
async def test_without_a_mailbox_a_postback_is_live_without_an_id_and_still_delivered_once(
    start: Start, size: int, who: str
) -> None:
    here = await start(size=size)
    first, second, third = (postback(who, number, key=uuid.uuid4().hex) for number in range(3))

    receipts = [await here.publish(each) for each in (first, second, first, third)]
    heard = await here.ear.hears(3)
    await here.broker.mailbox.prove(who, Mark("feed", 1), urgent=True)

    assert [receipt.marks for receipt in receipts] == [(None,)] * 4
    assert all(receipt.confirmed for receipt in receipts)
    assert [receipt.repeated for receipt in receipts] == [False, False, True, False]
    assert [delivery.body for delivery in heard] == [first.body, second.body, third.body]
    assert {delivery.mark for delivery in heard} == {None}
    assert await here.read(who) == EMPTY
    assert await here.read(who, Mark("feed", 1)) == EMPTY


async def test_a_session_id_of_16_characters_has_a_mailbox(start: Start, session: str) -> None:
    here = await start()

    receipt = await here.publish(postback(session[:16], 1))

    assert numbers(*receipt.marks) == [1]
    assert (await here.read(session[:16])).bodies == bodies(session[:16], 1)


# What is kept


async def test_the_latest_are_kept_up_to_the_number_that_is_allowed(
    start: Start, session: str
) -> None:
    here = await start(size=3)
    await published(here, session, 3)
    full = await here.read(session)

    await here.publish(postback(session, 4))
    over = await here.read(session)

    assert full.bodies == bodies(session, 1, 2, 3)
    assert (over.last, over.oldest, over.first) == (4, 2, 2)
    assert over.missed == 3
    assert over.bodies == bodies(session, 2, 3, 4)


async def test_the_latest_are_kept_up_to_the_bytes_that_are_allowed(
    start: Start, session: str
) -> None:
    here = await start(most_bytes=300)

    await here.publish(*(sized(session, number, 100) for number in (1, 2, 3)))
    exactly = await here.read(session)
    await here.publish(sized(session, 4, 101))
    over = await here.read(session)

    assert [len(body) for body in exactly.bodies] == [100, 100, 100]
    assert [len(body) for body in over.bodies] == [100, 101]
    assert over.oldest == 3


async def test_the_latest_is_kept_even_if_it_alone_is_more_than_is_allowed(
    start: Start, session: str
) -> None:
    here = await start(most_bytes=300)
    await here.publish(sized(session, 1, 100), sized(session, 2, 100))

    await here.publish(sized(session, 3, 301))
    alone = await here.read(session)
    await here.publish(sized(session, 4, 200), sized(session, 5, 100))
    later = await here.read(session)

    assert (alone.last, alone.oldest) == (3, 3)
    assert [len(body) for body in alone.bodies] == [301]
    assert (later.last, later.oldest) == (5, 4)
    assert [len(body) for body in later.bodies] == [200, 100]


@dataclass
class Model:
    """A mailbox in the plainest terms."""

    session: str
    size: int
    most_bytes: int
    epoch: str = ""
    last: int = 0
    cursor: int = 0
    kept: list[bytes] = field(default_factory=list)

    def add(self, mark: Mark | None, body: bytes) -> None:
        assert mark is not None
        self.epoch = self.epoch or mark.epoch
        self.last += 1
        assert mark == (self.epoch, self.last)
        self.kept.append(body)
        while len(self.kept) > self.size or sum(map(len, self.kept)) > self.most_bytes:
            if len(self.kept) == 1:
                break
            del self.kept[0]

    def prove(self, mark: Mark) -> None:
        if mark.epoch == self.epoch and self.cursor < mark.number <= self.last:
            self.cursor = mark.number

    def page(self, after: Mark | None, most: int, most_bytes: int) -> Page:
        if not self.epoch:
            return EMPTY
        oldest = self.last - len(self.kept) + 1
        start = self.cursor if after is None else after.number * (after.epoch == self.epoch)
        left = self.kept[max(0, start + 1 - oldest) :][:most]
        while len(left) > 1 and sum(map(len, left)) > most_bytes:
            del left[-1]
        return Page(self.epoch, self.last, self.cursor, oldest, start, tuple(left))


@pytest.mark.parametrize("seed", range(6))
async def test_a_mailbox_is_what_a_plain_model_of_it_is(
    start: Start, session: str, seed: int
) -> None:
    chance = random.Random(seed)
    size, most_bytes = chance.randint(1, 12), chance.choice([250, 900, 100_000])
    page, page_bytes = chance.randint(1, 5), chance.choice([1, 300, 100_000])
    here = await start(size=size, most_bytes=most_bytes, page=page, page_bytes=page_bytes)
    model = Model(session, size, most_bytes)
    sent: list[Postback] = []

    def some_mark() -> Mark:
        number = chance.randint(0, model.last)
        return chance.choice([Mark(model.epoch, number)] * 4 + [Mark("feed", number), NOWHERE])

    async def publish() -> None:
        sent.append(sized(session, len(sent), chance.choice([90, 100, 120, 150, 400])))
        receipt = await here.publish(sent[-1])
        assert not receipt.repeated
        model.add(receipt.marks[0], sent[-1].body)

    async def publish_array() -> None:
        new = [sized(session, len(sent) + place, 90 + place) for place in range(3)]
        receipt = await here.publish(new[0], *sent[-2:], *new[1:])
        sent.extend(new)
        for mark, each in zip((receipt.marks[0], *receipt.marks[-2:]), new, strict=True):
            model.add(mark, each.body)

    async def repeat() -> None:
        if sent:
            assert (await here.publish(chance.choice(sent))).repeated

    async def prove() -> None:
        mark = Mark(chance.choice([model.epoch] * 3 + ["feed"]), chance.randint(0, model.last + 2))
        await here.broker.mailbox.prove(session, mark, urgent=True)
        model.prove(mark)

    async def fall_back() -> None:
        ahead = Mark(model.epoch, model.last + chance.randint(1, 1000))
        if not model.epoch:
            return
        found = await here.read(session, ahead)
        assert found.epoch not in {"", model.epoch, "feed"}
        model.epoch, model.last, model.cursor = found.epoch, len(model.kept), 0
        assert found == model.page(Mark(model.epoch, 0), page, page_bytes)

    async def erase() -> None:
        await here.broker.mailbox.erase(session)
        model.epoch, model.last, model.cursor, model.kept = "", 0, 0, []

    steps = [publish] * 10 + [publish_array] * 3 + [repeat] * 3 + [prove] * 4 + [fall_back, erase]
    for _ in range(120):
        await chance.choice(steps)()
        for after in (None, some_mark(), some_mark()):
            assert await here.read(session, after) == model.page(after, page, page_bytes)

    heard = await here.ear.hears(len(sent))
    assert [delivery.body for delivery in heard] == [each.body for each in sent]
    oldest = model.last - len(model.kept) + 1
    kept = [(Mark(model.epoch, oldest + place), body) for place, body in enumerate(model.kept)]
    assert await here.read_all(session) == kept


# How long


@pytest.mark.slow
async def test_bodies_go_after_their_lifetime_but_the_count_goes_on(
    start: Start, session: str
) -> None:
    here = await start(lifetime=2, most_bytes=300)
    receipt = await here.publish(*(sized(session, number, 100) for number in (1, 2, 3)))
    first, second, third = receipt.marks
    assert first is not None
    assert second is not None
    assert third is not None
    await here.broker.mailbox.prove(session, second, urgent=True)

    async def bodies_gone() -> bool:
        return not (await here.read(session, first)).bodies

    assert not await bodies_gone()
    await eventually(bodies_gone)
    gone = await here.read(session, first)
    more = await here.publish(sized(session, 4, 200), sized(session, 5, 100))
    later = await here.read(session, first)

    assert gone == Page(first.epoch, last=3, cursor=2, oldest=4, start=1)
    assert gone.missed == 0
    assert more.marks == (Mark(first.epoch, 4), Mark(first.epoch, 5))
    assert (later.last, later.cursor, later.oldest, later.start) == (5, 2, 4, 1)
    assert [len(body) for body in later.bodies] == [200, 100]  # bytes are counted anew, too


@pytest.mark.slow
async def test_when_the_count_is_gone_a_new_epoch_begins_without_the_old_bodies(
    start: Start, session: str
) -> None:
    here = await start(state_lifetime=2)
    old = await published(here, session, 3)

    async def all_gone() -> bool:
        return await here.read(session) == EMPTY

    assert not await all_gone()
    await eventually(all_gone)
    receipt = await here.publish(postback(session, 4))
    found = await here.read(session, Mark(old, 2))

    [mark] = receipt.marks
    assert mark is not None
    assert mark.epoch != old
    assert found == Page(mark.epoch, 1, 0, 1, 0, bodies(session, 4))


@pytest.mark.slow
async def test_each_postback_gives_the_bodies_and_the_count_their_time_anew(
    start: Start, session: str
) -> None:
    here = await start(lifetime=2, state_lifetime=2)
    end = asyncio.get_running_loop().time() + 2.5
    count = 0

    while asyncio.get_running_loop().time() < end:
        count += 1
        await here.publish(postback(session, count))
        await asyncio.sleep(0.2)

    found = await here.read(session, NOWHERE)
    assert found.last == count
    assert found.bodies == bodies(session, *range(1, count + 1))


@pytest.mark.slow
async def test_a_cursor_that_moves_gives_the_count_its_time_anew_but_not_the_bodies(
    start: Start, session: str
) -> None:
    here = await start(lifetime=2, state_lifetime=5)
    epoch = await published(here, session, 2)
    over = asyncio.get_running_loop().time() + 5.1  # but for the proof

    async def bodies_gone() -> bool:
        return not (await here.read(session, NOWHERE)).bodies

    await eventually(bodies_gone)
    await here.broker.mailbox.prove(session, Mark(epoch, 1), urgent=True)
    bodies_stay_gone = await bodies_gone()
    await asyncio.sleep(over - asyncio.get_running_loop().time())

    assert bodies_stay_gone
    assert await here.read(session) == Page(epoch, last=2, cursor=1, oldest=3, start=1)


# Pages


async def test_a_page_has_so_many_bodies_and_the_next_one_goes_on_after_them(
    start: Start, session: str
) -> None:
    here = await start(page=3)
    epoch = await published(here, session, 7)

    pages = [await here.read(session, Mark(epoch, number)) for number in (0, 3, 6, 7)]

    assert [page.bodies for page in pages] == [
        bodies(session, 1, 2, 3),
        bodies(session, 4, 5, 6),
        bodies(session, 7),
        (),
    ]
    assert [page.start for page in pages] == [0, 3, 6, 7]
    assert [page.first for page in pages] == [1, 4, 7, 8]
    assert [page.missed for page in pages] == [7, 4, 1, 0]
    assert {(page.epoch, page.last, page.oldest) for page in pages} == {(epoch, 7, 1)}


async def test_a_page_has_so_many_bytes_but_one_body_in_any_case(
    start: Start, session: str
) -> None:
    here = await start(page_bytes=250)
    sizes = (100, 150, 100, 151, 251, 90)
    await here.publish(*(sized(session, place, size) for place, size in enumerate(sizes)))
    epoch = (await here.read(session)).epoch

    pages = [await here.read(session, Mark(epoch, number)) for number in range(6)]

    assert [[len(body) for body in page.bodies] for page in pages] == [
        [100, 150],
        [150, 100],
        [100],
        [151],
        [251],
        [90],
    ]


async def test_a_page_begins_after_the_cursor_unless_a_mark_is_given(
    start: Start, session: str
) -> None:
    here = await start()
    epoch = await published(here, session, 4)
    unproven = await here.read(session)

    await here.broker.mailbox.prove(session, Mark(epoch, 3), urgent=True)
    proven = await here.read(session)
    marked = await here.read(session, Mark(epoch, 2))

    assert unproven == Page(epoch, 4, 0, 1, 0, bodies(session, 1, 2, 3, 4))
    assert proven == Page(epoch, 4, 3, 1, 3, bodies(session, 4))
    assert marked == Page(epoch, 4, 3, 1, 2, bodies(session, 3, 4))


@pytest.mark.parametrize("elsewhere", [NOWHERE, ELSEWHERE, Mark("feed", 2), Mark("feed", 99)])
async def test_after_a_mark_of_another_epoch_a_page_begins_at_the_beginning(
    start: Start, session: str, elsewhere: Mark
) -> None:
    here = await start()
    epoch = await published(here, session, 3)
    await here.broker.mailbox.prove(session, Mark(epoch, 2), urgent=True)

    page = await here.read(session, elsewhere)

    assert page == Page(epoch, 3, 2, 1, 0, bodies(session, 1, 2, 3))


async def test_after_a_mark_whose_followers_are_gone_a_page_begins_with_the_oldest(
    start: Start, session: str
) -> None:
    here = await start(size=3)
    epoch = await published(here, session, 8)

    page = await here.read(session, Mark(epoch, 2))

    assert page == Page(epoch, 8, 0, 6, 2, bodies(session, 6, 7, 8))
    assert page.first == 6
    assert page.missed == 3


async def test_a_mark_ahead_of_the_count_begins_an_epoch_in_which_the_rest_is_renumbered(
    start: Start, session: str
) -> None:
    here = await start(size=3)
    old = await published(here, session, 5)
    await here.broker.mailbox.prove(session, Mark(old, 4), urgent=True)

    page = await here.read(session, Mark(old, 6))
    from_cursor = await here.read(session)
    await here.broker.mailbox.prove(session, Mark(old, 5), urgent=True)
    receipt = await here.publish(postback(session, 6))
    later = await here.read(session, Mark(page.epoch, 3))

    assert page.epoch not in {"", old}
    assert page == Page(page.epoch, 3, 0, 1, 0, bodies(session, 3, 4, 5))
    assert marks.parse(f"{page.epoch}:1") == (page.epoch, 1)
    assert from_cursor == page
    assert receipt.marks == (Mark(page.epoch, 4),)
    assert later == Page(page.epoch, 4, 0, 2, 3, bodies(session, 6))


async def test_the_last_mark_is_not_ahead(start: Start, session: str) -> None:
    here = await start()
    epoch = await published(here, session, 2)

    page = await here.read(session, Mark(epoch, 2))

    assert page == Page(epoch, 2, 0, 1, 2)


async def test_a_session_that_got_nothing_has_an_empty_mailbox(start: Start, session: str) -> None:
    here = await start()
    await here.broker.mailbox.prove(session, Mark("feed", 3), urgent=True)

    for after in (None, NOWHERE, Mark("feed", 3)):
        assert await here.read(session, after) == EMPTY


# The cursor


async def test_a_cursor_moves_forward_only_within_its_epoch_and_not_past_the_last(
    start: Start, session: str
) -> None:
    here = await start()
    epoch = await published(here, session, 5)
    proofs = [Mark(epoch, 0), Mark(epoch, 2), Mark(epoch, 1), Mark("feed", 4), Mark(epoch, 6),
              NOWHERE, Mark(epoch, 2), Mark(epoch, 5), Mark(epoch, 3)]  # fmt: skip

    cursors = []
    for mark in proofs:
        await here.broker.mailbox.prove(session, mark, urgent=True)
        cursors.append((await here.read(session)).cursor)

    assert cursors == [0, 2, 2, 2, 2, 2, 2, 5, 5]


async def test_of_proofs_that_come_together_the_furthest_counts_and_all_are_answered(
    start: Start, session: str
) -> None:
    here, other = await start(), f"{session}-other"
    epoch = await published(here, session, 9)
    other_epoch = await published(here, other, 9)

    stored = [here.broker.mailbox.prove(session, Mark(epoch, n)) for n in (1, 7, 3, 5)]
    stored += [here.broker.mailbox.prove(other, Mark(other_epoch, n)) for n in (2, 1)]
    await asyncio.gather(*stored)

    assert (await here.read(session)).cursor == 7
    assert (await here.read(other)).cursor == 2


@pytest.mark.parametrize("stale_first", [True, False])
async def test_a_proof_in_a_past_epoch_does_not_outdo_one_that_comes_together_with_it(
    start: Start, session: str, *, stale_first: bool
) -> None:
    here = await start()
    epoch = await published(here, session, 3)
    proofs = [Mark("feed", 9), Mark(epoch, 2)] if stale_first else [Mark(epoch, 2), Mark("feed", 9)]

    stored = [here.broker.mailbox.prove(session, mark) for mark in proofs]
    await asyncio.gather(*stored)

    assert (await here.read(session)).cursor == 2


async def test_a_flush_writes_all_cursors(start: Start, session: str) -> None:
    here = await start(Limits(redis_settle=0.02, confirm=20, cursor_pause=3600))
    sessions = [f"{session}-{number}" for number in range(120)]
    for each in sessions:
        await here.publish(postback(each, 1), postback(each, 2))
    stored = [
        here.broker.mailbox.prove(each, Mark((await here.read(each)).epoch, 2)) for each in sessions
    ]

    await here.broker.flush()

    assert all(each.done() for each in stored)
    assert {(await here.read(each)).cursor for each in sessions} == {2}


# Forgetting


async def test_an_erased_session_begins_anew(start: Start, session: str) -> None:
    here, other = await start(), f"{session}-other"
    old = await published(here, session, 3)
    await published(here, other, 3)
    await here.broker.mailbox.prove(session, Mark(old, 2), urgent=True)

    await here.broker.mailbox.erase(session)
    erased = await here.read(session, Mark(old, 1))
    receipt = await here.publish(postback(session, 4))
    later = await here.read(session)

    assert erased == EMPTY
    [mark] = receipt.marks
    assert mark is not None
    assert mark.epoch != old
    assert later == Page(mark.epoch, 1, 0, 1, 0, bodies(session, 4))
    assert (await here.read(other)).bodies == bodies(other, 1, 2, 3)


# Presence and leases, as one instance alone sees them


async def test_sockets_are_counted_by_who_listens(start: Start, session: str) -> None:
    here = await start()
    here.ear.sockets[session] = 3

    assert await here.broker.sockets(session) == 3
    assert await here.broker.sockets(f"{session}-other") == 0


async def test_an_instance_alone_gets_every_claim_and_knows_what_it_has_settled(
    start: Start, session: str
) -> None:
    here, other = await start(), f"{session}-other"
    leases = here.broker.leases
    unknown = await leases.claim(session, "a-1")

    leases.settle(session, "a-1", "accepted")
    leases.settle(session, "a-2", "rejected")

    assert unknown == Claim(granted=True)
    assert await leases.claim(session, "a-1") == Claim(granted=True, outcome="accepted")
    assert await leases.claim(session, "a-2") == Claim(granted=True, outcome="rejected")
    assert await leases.claim(session, "a-3") == Claim(granted=True)
    assert await leases.claim(other, "a-1") == Claim(granted=True)
    leases.release(session)
    assert await leases.claim(session, "a-1") == Claim(granted=True, outcome="accepted")
    leases.hold(session)
    assert await leases.claim(session, "a-4") == Claim(granted=True)


async def test_an_outcome_is_forgotten_after_its_time(start: Start, session: str) -> None:
    here = await start(Limits(redis_settle=0.02, confirm=20, outcome=2))
    here.broker.leases.settle(session, "a-1", "accepted")
    known = await here.broker.leases.claim(session, "a-1")

    async def forgotten() -> bool:
        return (await here.broker.leases.claim(session, "a-1")).outcome is None

    assert known.outcome == "accepted"
    await eventually(forgotten)
