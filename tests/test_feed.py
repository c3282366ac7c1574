"""What a connection sends next: never too little, nothing twice, all in order."""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard_operator import marks
from switchboard_operator.feed import Feed, Numbered
from switchboard_operator.mailbox import EMPTY, Page
from switchboard_operator.marks import ELSEWHERE, NOWHERE, Mark

PAGE = 20  # postbacks


def numbered(*numbers: int, epoch: str = "a") -> list[Numbered]:
    """Return the postbacks of *numbers*; the body of each is its number."""
    return [(Mark(epoch, number), b"%d" % number) for number in numbers]


def page(last: int, start: int, *, oldest: int = 1, epoch: str = "a") -> Page:
    """Return what a mailbox with *oldest* to *last* has after *start*."""
    first = max(start + 1, oldest)
    bodies = tuple(b"%d" % number for number in range(first, last + 1))[:PAGE]
    return Page(epoch, last=last, cursor=0, oldest=oldest, start=start, bodies=bodies)


def hear(feed: Feed, *numbers: int, epoch: str = "a", room: bool = True) -> list[Numbered]:
    """Let *feed* hear the postbacks of *numbers*; return those that are sent at once."""
    return [
        (mark, body)
        for mark, body in numbered(*numbers, epoch=epoch)
        if feed.take(mark, body, room=room)
    ]


def read(feed: Feed, answer: Page | None) -> list[Numbered]:
    """Ask for a page and take it with nothing heard between; return what is sent."""
    feed.asked()
    return feed.take_page(answer)


def catch_up(feed: Feed, last: int) -> list[Numbered]:
    """Read pages of a mailbox with all up to *last* until *feed* is live; return what is sent."""
    sent: list[Numbered] = []
    for _ in range(last // PAGE + 3):
        if feed.live:
            return sent
        assert feed.after is not None
        sent += read(feed, page(last, feed.after.number))
    raise AssertionError("it asks for pages for ever")


def live_at(number: int, epoch: str = "a") -> Feed:
    """Return a feed that has sent all up to *number*, which is the latest."""
    feed = Feed(Mark(epoch, number))
    read(feed, page(number, number, epoch=epoch))
    assert feed.live
    return feed


# Live


def test_a_feed_begins_behind_and_sends_nothing_that_it_hears() -> None:
    feed = Feed(Mark("a", 5))

    sent = hear(feed, 6)

    assert (sent, feed.live, feed.after) == ([], False, Mark("a", 5))


def test_live_it_sends_what_is_next_at_once() -> None:
    feed = live_at(5)

    sent = hear(feed, 6, 7, 8)

    assert sent == numbered(6, 7, 8)
    assert (feed.live, feed.after, feed.ahead) == (True, Mark("a", 8), 0)


def test_the_first_postback_of_a_session_is_sent_at_once() -> None:
    feed = Feed(None)
    read(feed, EMPTY)

    sent = hear(feed, 1, 2)

    assert sent == numbered(1, 2)
    assert feed.live


def test_the_first_postback_after_all_bodies_were_lost_to_a_new_epoch_is_sent_at_once() -> None:
    feed = Feed(Mark("a", 5))
    read(feed, page(0, 0, epoch="b"))

    sent = hear(feed, 1, epoch="b")

    assert sent == numbered(1, epoch="b")


@pytest.mark.parametrize(
    "heard",
    [Mark("a", 7), Mark("a", 5), Mark("a", 1), Mark("b", 6), Mark("b", 1)],
    ids=["hole", "again", "long ago", "another epoch", "first of another epoch"],
)
def test_live_it_sends_nothing_else_but_looks_in_the_mailbox(heard: Mark) -> None:
    feed = live_at(5)

    sent = feed.take(heard, b"anything", room=True)

    assert (sent, feed.live, feed.after) == (False, False, Mark("a", 5))


def test_live_it_falls_behind_when_there_is_no_room() -> None:
    feed = live_at(5)

    sent = hear(feed, 6, room=False)

    assert (sent, feed.live, feed.after, feed.ahead) == ([], False, Mark("a", 5), 0)
    assert read(feed, page(6, 5)) == numbered(6)
    assert feed.live


# Pages


def test_pages_follow_one_another_until_the_last_is_read() -> None:
    feed = Feed(NOWHERE)

    first = read(feed, page(30, 0))
    was_live = feed.live
    second = read(feed, page(30, 20))

    assert first == numbered(*range(1, 21))
    assert second == numbered(*range(21, 31))
    assert (was_live, feed.live, feed.after) == (False, True, Mark("a", 30))


def test_after_none_it_begins_where_the_page_does() -> None:
    feed = Feed(None)

    sent = read(feed, page(5, 3))

    assert sent == numbered(4, 5)
    assert (feed.live, feed.after) == (True, Mark("a", 5))


def test_a_hole_is_filled_before_what_comes_after_it() -> None:
    feed = live_at(5)
    hear(feed, 8, 9)

    sent = read(feed, page(9, 5))

    assert sent == numbered(6, 7, 8, 9)
    assert (feed.live, feed.after, feed.ahead) == (True, Mark("a", 9), 0)


def test_what_was_sent_before_is_not_sent_again() -> None:
    feed = live_at(5)
    hear(feed, 4, 5)

    sent = read(feed, page(5, 5))

    assert sent == []
    assert (feed.live, feed.after, feed.ahead) == (True, Mark("a", 5), 0)


def test_another_epoch_is_sent_from_its_beginning() -> None:
    feed = live_at(5)
    hear(feed, 3, epoch="b")

    sent = read(feed, page(3, 0, epoch="b"))

    assert sent == numbered(1, 2, 3, epoch="b")
    assert (feed.live, feed.after) == (True, Mark("b", 3))


def test_a_counter_that_was_wound_back_comes_as_a_new_epoch_and_all_of_it_is_sent() -> None:
    feed = live_at(9)
    hear(feed, 8)

    sent = read(feed, page(3, 0, epoch="b"))

    assert sent == numbered(1, 2, 3, epoch="b")
    assert (feed.live, feed.after, feed.ahead) == (True, Mark("b", 3), 0)


def test_where_all_was_erased_the_count_begins_anew() -> None:
    feed = live_at(5)
    feed.fall_behind()

    read(feed, EMPTY)

    assert (feed.live, feed.after) == (True, NOWHERE)
    assert hear(feed, 1, epoch="b") == numbered(1, epoch="b")


def test_bodies_that_are_too_old_are_passed_over() -> None:
    feed = Feed(Mark("a", 3))

    sent = read(feed, page(5, 3, oldest=6))

    assert (sent, feed.live, feed.after) == ([], True, Mark("a", 5))
    assert hear(feed, 6) == numbered(6)


def test_bodies_that_were_pushed_out_are_passed_over() -> None:
    feed = Feed(Mark("a", 3))

    sent = read(feed, page(9, 3, oldest=8))

    assert sent == numbered(8, 9)
    assert (feed.live, feed.after) == (True, Mark("a", 9))


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        (page(5, 3), 0),
        (page(5, 5), 0),
        (page(9, 3, oldest=8), 4),
        (page(9, 3, oldest=10), 6),
        (EMPTY, 0),
        (None, 0),
    ],
    ids=["none", "nothing new", "pushed out", "too old", "no mailbox", "not readable"],
)
def test_it_tells_how_many_are_gone_before_they_were_read(answer: Page | None, lost: int) -> None:
    feed = Feed(Mark("a", 3))

    read(feed, answer)

    assert feed.lost == lost


def test_what_is_gone_is_told_once() -> None:
    feed = Feed(Mark("a", 3))
    read(feed, page(40, 3, oldest=8))

    read(feed, page(40, 27, oldest=8))

    assert feed.lost == 0


# What is heard ahead


def test_what_is_heard_while_a_page_is_under_way_follows_it() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 8, 9)

    sent = feed.take_page(page(7, 5))

    assert sent == numbered(6, 7, 8, 9)
    assert (feed.live, feed.after, feed.ahead) == (True, Mark("a", 9), 0)


def test_what_is_in_the_page_as_well_is_sent_once() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 7, 8, 9)

    sent = feed.take_page(page(8, 5))

    assert sent == numbered(6, 7, 8, 9)
    assert feed.live


def test_what_comes_late_is_not_sent_after_what_was_read() -> None:
    feed = Feed(Mark("a", 5))
    read(feed, page(8, 5))

    sent = hear(feed, 6, 7, 8) + read(feed, page(8, 8)) + hear(feed, 9)

    assert sent == numbered(9)
    assert feed.live


def test_a_page_that_does_not_reach_it_leaves_it_ahead() -> None:
    feed = Feed(NOWHERE)
    hear(feed, 40, 41)

    first = read(feed, page(41, 0))
    kept = feed.ahead
    second = read(feed, page(41, 20))

    assert first == numbered(*range(1, 21))
    assert kept == 2
    assert second == numbered(*range(21, 42))
    assert (feed.live, feed.ahead) == (True, 0)


def test_it_stays_behind_while_something_may_lie_between_the_page_and_what_was_heard() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 9)

    sent = feed.take_page(page(6, 5))

    assert sent == numbered(6)
    assert (feed.live, feed.ahead) == (False, 1)
    assert read(feed, page(9, 6)) == numbered(7, 8, 9)
    assert feed.live


def test_what_was_heard_goes_back_further_than_what_is_kept() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, *range(6, 13))

    sent = feed.take_page(page(12, 5, oldest=11))

    assert sent == numbered(*range(6, 13))
    assert (feed.live, feed.lost) == (True, 0)


def test_what_was_heard_goes_back_to_all_that_is_kept_but_not_to_the_mark() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, *range(9, 13))

    sent = feed.take_page(page(12, 5, oldest=10))

    assert sent == numbered(*range(9, 13))
    assert (feed.live, feed.lost) == (True, 3)


def test_the_first_postback_is_sent_though_the_page_knew_nothing_of_it() -> None:
    feed = Feed(None)
    feed.asked()
    hear(feed, 1, 2)

    sent = feed.take_page(EMPTY)

    assert sent == numbered(1, 2)
    assert feed.live


def test_what_has_no_room_is_read_later_and_all_that_was_heard_before_it() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 7)
    hear(feed, 8, room=False)
    hear(feed, 9)

    sent = feed.take_page(page(6, 5))
    kept = feed.ahead
    sent += read(feed, page(9, 6))

    assert kept == 1
    assert sent == numbered(6, 7, 8, 9)
    assert feed.live


def test_what_was_heard_before_a_hole_is_read_later() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 6, 8)

    sent = feed.take_page(page(5, 5))

    assert (sent, feed.live, feed.ahead) == ([], False, 1)
    assert read(feed, page(8, 5)) == numbered(6, 7, 8)


def test_the_bytes_of_what_is_ahead_are_counted() -> None:
    feed = Feed(Mark("a", 5))

    sizes = []
    for number, body in [(7, b"abc"), (8, b"de"), (10, b"f"), (11, b"ghij")]:
        feed.take(Mark("a", number), body, room=True)
        sizes.append((feed.ahead, feed.ahead_bytes))
    feed.take(Mark("a", 12), b"klmno", room=False)
    sizes.append((feed.ahead, feed.ahead_bytes))

    assert sizes == [(1, 3), (2, 5), (1, 1), (2, 5), (0, 0)]


# Postbacks that may have gone unheard


def test_after_a_resync_all_is_looked_for_in_the_mailbox() -> None:
    feed = live_at(5)

    feed.fall_behind()

    assert not feed.live
    assert read(feed, page(7, 5)) == numbered(6, 7)
    assert feed.live


def test_a_page_from_before_a_resync_is_not_the_last() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    feed.fall_behind()

    sent = feed.take_page(page(6, 5))

    assert (sent, feed.live) == (numbered(6), False)
    assert read(feed, page(8, 6)) == numbered(7, 8)
    assert feed.live


def test_what_was_heard_before_a_resync_says_nothing_about_what_came_after_it() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 6)
    feed.fall_behind()  # 7 and 8 went unheard

    sent = feed.take_page(page(5, 5))
    sent += catch_up(feed, 8)

    assert sent == numbered(6, 7, 8)


def test_what_was_heard_before_a_resync_does_not_hide_what_the_next_page_has() -> None:
    feed = Feed(Mark("a", 5))
    hear(feed, 6)
    feed.fall_behind()  # 7 and 8 went unheard

    sent = read(feed, page(8, 5))
    sent += catch_up(feed, 8)

    assert sent == numbered(6, 7, 8)


# A mailbox that can't be read


def test_without_a_mailbox_what_was_heard_is_sent_and_what_follows() -> None:
    feed = Feed(Mark("a", 5))
    hear(feed, 6, 7)

    sent = read(feed, None) + hear(feed, 8)

    assert sent == numbered(6, 7, 8)
    assert feed.live


def test_without_a_mailbox_a_hole_stays_and_nothing_is_sent_twice() -> None:
    feed = live_at(5)
    hear(feed, 5, 8)

    sent = read(feed, None) + hear(feed, 9)

    assert sent == numbered(8, 9)
    assert feed.live


def test_without_a_mailbox_a_new_epoch_is_sent_as_it_is_heard() -> None:
    feed = live_at(5)
    hear(feed, 1, 2, epoch="b")

    sent = read(feed, None)

    assert sent == numbered(1, 2, epoch="b")
    assert (feed.live, feed.after) == (True, Mark("b", 2))


def test_without_a_mailbox_from_the_beginning_all_that_is_heard_is_sent() -> None:
    feed = Feed(None)

    sent = read(feed, None)
    for number in (41, 42, 43):
        sent += hear(feed, number)
        sent += read(feed, None) if not feed.live else []

    assert sent == numbered(41, 42, 43)


# Ids that somebody has made up


MADE_UP: Final[dict[str, Mark]] = {
    "another epoch": Mark("z", 6),
    "first of another epoch": Mark("z", 1),
    "far ahead": Mark("a", 1000),
    "was there before": Mark("a", 5),
    "was there long before": Mark("a", 1),
}


@pytest.mark.parametrize("mark", MADE_UP.values(), ids=MADE_UP)
def test_an_invented_id_costs_one_look(mark: Mark) -> None:
    feed = live_at(5)
    feed.take(mark, b"invented", room=True)

    sent = read(feed, page(5, 5))

    assert sent == []
    assert (feed.live, feed.after, feed.ahead, feed.ahead_bytes) == (True, Mark("a", 5), 0, 0)
    assert hear(feed, 6) == numbered(6)


@pytest.mark.parametrize("mark", MADE_UP.values(), ids=MADE_UP)
def test_an_invented_id_hides_nothing_that_the_mailbox_has(mark: Mark) -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    feed.take(mark, b"invented", room=True)

    sent = feed.take_page(page(30, 5))
    sent += catch_up(feed, 30)

    assert sent == numbered(*range(6, 31))
    assert feed.ahead == 0


@pytest.mark.parametrize("mark", MADE_UP.values(), ids=MADE_UP)
def test_what_is_heard_after_an_invented_id_is_sent(mark: Mark) -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    feed.take(mark, b"invented", room=True)
    hear(feed, 6, 7)

    sent = feed.take_page(page(5, 5))
    sent += catch_up(feed, 7)

    assert sent == numbered(6, 7)
    assert feed.ahead == 0


def test_an_invented_id_between_what_is_heard_hides_nothing() -> None:
    feed = Feed(Mark("a", 5))
    feed.asked()
    hear(feed, 6)
    feed.take(Mark("a", 3), b"invented", room=True)

    sent = feed.take_page(page(5, 5))
    sent += catch_up(feed, 6)

    assert sent == numbered(6)
    assert feed.ahead == 0


@pytest.mark.parametrize("number", [2, 1000])
def test_an_invented_id_in_an_empty_session_is_not_sent(number: int) -> None:
    feed = Feed(None)
    feed.take(Mark("z", number), b"invented", room=True)

    sent = read(feed, EMPTY)

    assert (sent, feed.live, feed.ahead) == ([], True, 0)


# Against a model of Redis, the channel and a connection


@dataclass(frozen=True)
class State:
    """What Redis has of a session."""

    epoch: str = ""
    last: int = 0
    cursor: int = 0
    bodies: tuple[bytes, ...] = ()

    @property
    def oldest(self) -> int:
        return self.last - len(self.bodies) + 1


class Redis:
    """Does to one session what publish.lua and read.lua do."""

    def __init__(self, most: int) -> None:
        self.state = State()
        self.past = [self.state]
        self._most = most
        self._epochs = (f"e{number}" for number in itertools.count())

    def publish(self, body: bytes) -> Mark:
        before = self.state
        if not before.epoch or len(before.bodies) > before.last:
            before = State(epoch=next(self._epochs))
        bodies = (*before.bodies, body)[-self._most :]
        self.state = replace(before, last=before.last + 1, bodies=bodies)
        self.past.append(self.state)
        return Mark(self.state.epoch, self.state.last)

    def read(self, after: Mark | None, most: int) -> Page:
        state = self.state
        if not state.epoch:
            return EMPTY
        start = 0
        if after is None:
            start = state.cursor
        elif after.epoch == state.epoch:
            start = after.number
            if start > state.last:
                state = self.state = State(
                    next(self._epochs), len(state.bodies), bodies=state.bodies
                )
                start = 0
        begin = max(start + 1, state.oldest) - state.oldest
        bodies = state.bodies[begin : begin + most]
        return Page(state.epoch, state.last, state.cursor, state.oldest, start, bodies)


@dataclass(frozen=True)
class Beginning:
    """How things are when the connection joins its session."""

    published: int
    sent: int  # of those, to the client on an earlier connection
    unheard: int  # of those, still on their way over the channel
    known_by: str  # who knows what the client has: its cursor, or the client itself
    page: int  # postbacks in a page


class World:
    """A session in Redis, the channel, and a feed, with which it deals as a connection does."""

    def __init__(self, beginning: Beginning, most: int = 1_000_000) -> None:
        self.redis = Redis(most)
        self.published: list[Numbered] = []
        self.sent: list[Numbered] = []
        self.safe = 0  # what was published before that may be lost or doubled
        self._channel: deque[Numbered] = deque()
        self._listening = True
        self._page_size = beginning.page
        self._asked = False
        self._page: Page | None = None  # the one that was read, on its way
        for _ in range(beginning.published):
            self.publish()
        while len(self._channel) > beginning.unheard:
            self._channel.popleft()
        self.before = min(beginning.sent, beginning.published)
        self.feed = Feed(self._joined_after(beginning.known_by))

    def _joined_after(self, known_by: str) -> Mark | None:
        if known_by == "cursor":
            self.redis.state = replace(self.redis.state, cursor=self.before)
            return None
        if known_by == "client":
            return self.published[self.before - 1][0] if self.before else NOWHERE
        self.before = 0
        return ELSEWHERE

    def publish(self, _n: int = 0) -> None:
        body = b"%d" % (len(self.published) + 1)
        self.published.append((self.redis.publish(body), body))
        if self._listening:
            self._channel.append(self.published[-1])

    def hear(self, n: int = 1) -> None:
        """Hear the next of the channel; now and then there is no room for it."""
        if self._channel:
            mark, body = self._channel.popleft()
            if self.feed.take(mark, body, room=n % 4 > 0):
                self.sent.append((mark, body))

    def ask(self, _n: int = 0) -> None:
        if not self.feed.live and not self._asked:
            self.feed.asked()
            self._asked = True

    def read(self, _n: int = 0) -> None:
        if self._asked and self._page is None:
            self._page = self.redis.read(self.feed.place, self._page_size)

    def take_page(self, _n: int = 0) -> None:
        if self._page is not None:
            due = self.feed.take_page(self._page)
            self.sent += due
            self._asked, self._page = False, None

    def go_deaf(self, _n: int = 0) -> None:
        self._listening = False
        self._channel.clear()

    def listen(self, _n: int = 0) -> None:
        """Hear what is published from now on."""
        if not self._listening:
            self._listening = True
            self.feed.fall_behind()

    def forge(self, n: int) -> None:
        """Publish what has the id of something that was sent, or of nothing that ever will be."""
        after = self.feed.after or NOWHERE
        marks = [Mark("z", n + 1), Mark(self.redis.state.epoch or "z", 1_000_000 + n)]
        if after.number:
            marks.append(Mark(after.epoch, n % after.number + 1))
        if self._listening:
            self._channel.append((marks[n % len(marks)], b"forged"))

    # What loses something

    def flush(self, _n: int = 0) -> None:
        self.redis.state = State()
        self.safe = len(self.published)

    def expire(self, _n: int = 0) -> None:
        self.redis.state = replace(self.redis.state, bodies=())
        self.safe = len(self.published)

    def restore(self, n: int) -> None:
        """Go back to an older snapshot; instances look in the mailbox before they publish again."""
        self.redis.state = self.redis.past[-1 - n % len(self.redis.past)]
        self.safe = len(self.published)
        self.go_deaf()
        self.listen()
        self.take_page()
        self.ask()
        self.read()

    def refuse_to_read(self, _n: int = 0) -> None:
        if self._asked:
            self.sent += self.feed.take_page(None)
            self._asked, self._page = False, None
            self.safe = len(self.published)

    def rest(self) -> None:
        """Let all that is on its way arrive, and the feed catch up."""
        self.listen()
        while self._channel:
            self.hear()
        pages = 0
        while not self.feed.live:
            self.ask()
            self.read()
            self.take_page()
            pages += 1
            assert pages <= len(self.redis.state.bodies) + 4, "it asks for pages for ever"


Action = Callable[[World, int], None]

USUAL: Final[Sequence[Action]] = (
    World.publish,
    World.publish,
    World.hear,
    World.hear,
    World.hear,
    World.ask,
    World.read,
    World.take_page,
    World.take_page,
    World.go_deaf,
    World.listen,
    World.forge,
)
LOSSES: Final[Sequence[Action]] = (
    World.flush,
    World.expire,
    World.restore,
    World.refuse_to_read,
)

beginnings = st.integers(0, 4).flatmap(
    lambda published: st.builds(
        Beginning,
        published=st.just(published),
        sent=st.integers(0, published),
        unheard=st.integers(0, published),
        known_by=st.sampled_from(["cursor", "client", "nobody"]),
        page=st.integers(1, 3),
    )
)


def several(*actions: Action) -> st.SearchStrategy[list[tuple[Action, int]]]:
    return st.lists(st.tuples(st.sampled_from(actions), st.integers(0, 11)), max_size=50)


def genuine(sent: list[Numbered]) -> list[Numbered]:
    return [(mark, body) for mark, body in sent if body != b"forged"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # many examples, on a machine that is busy
@settings(max_examples=2500, database=None)
@given(beginnings, several(*USUAL))
def test_whatever_is_late_or_unheard_or_forged_all_is_sent_once_in_order(
    beginning: Beginning, actions: list[tuple[Action, int]]
) -> None:
    world = World(beginning)

    for act, n in actions:
        act(world, n)
    world.rest()

    assert genuine(world.sent) == world.published[world.before :]
    assert (world.feed.live, world.feed.ahead, world.feed.ahead_bytes) == (True, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)  # many examples, on a machine that is busy
@settings(max_examples=1500, database=None)
@given(beginnings, st.integers(1, 4), several(*USUAL))
def test_from_a_mailbox_too_small_all_that_is_kept_is_sent_and_nothing_twice(
    beginning: Beginning, most: int, actions: list[tuple[Action, int]]
) -> None:
    world = World(beginning, most)

    for act, n in actions:
        act(world, n)
    world.rest()

    sent = genuine(world.sent)
    due = world.published[world.before :]
    assert sent == [postback for postback in due if postback in sent]
    kept = due[-most:]
    assert sent[len(sent) - len(kept) :] == kept
    assert (world.feed.live, world.feed.ahead, world.feed.ahead_bytes) == (True, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)  # many examples, on a machine that is busy
@settings(max_examples=2500, database=None)
@given(beginnings, several(*USUAL, *USUAL, *LOSSES))
def test_whatever_was_lost_all_that_is_published_after_it_is_sent(
    beginning: Beginning, actions: list[tuple[Action, int]]
) -> None:
    world = World(beginning)

    for act, n in actions:
        act(world, n)
    world.rest()

    sent = [body for _, body in world.sent]
    after_the_loss = [body for _, body in world.published[max(world.safe, world.before) :]]
    assert [body for body in after_the_loss if body not in sent] == []
    assert {*sent} <= {body for _, body in world.published} | {b"forged"}
    assert (world.feed.live, world.feed.ahead, world.feed.ahead_bytes) == (True, 0, 0)


def live_after(*bodies: bytes) -> Feed:
    """Return a feed that has sent these, numbered from 1 in epoch "a"."""
    feed = Feed(NOWHERE)
    feed.asked()
    feed.take_page(Page("a", last=0, cursor=0, oldest=1, start=0))
    for number, body in enumerate(bodies, start=1):
        assert feed.take(Mark("a", number), body, room=True)
    return feed


def test_what_a_page_brought_before_the_channel_did_is_dropped_without_another_look() -> None:
    feed = live_after(b"one", b"two", b"three")

    sent = feed.take(Mark("a", 2), b"two", room=True)

    assert (sent, feed.live, feed.after) == (False, True, Mark("a", 3))


def test_an_invented_postback_with_an_old_id_sends_nothing_again() -> None:
    feed = live_after(b"one", b"two", b"three")
    feed.take(Mark("a", 2), b"invented", room=True)

    place = feed.place
    feed.asked()
    due = feed.take_page(Page("a", 3, cursor=0, oldest=1, start=1, bodies=(b"two", b"three")))

    assert place == Mark("a", 1)
    assert (due, feed.live, feed.after) == ([], True, Mark("a", 3))


def test_an_invented_postback_with_the_very_next_id_does_not_displace_the_genuine_one() -> None:
    feed = live_after(b"one", b"invented")
    feed.take(Mark("a", 2), b"genuine", room=True)
    feed.asked()

    due = feed.take_page(Page("a", last=2, cursor=0, oldest=1, start=1, bodies=(b"genuine",)))

    # Its id is taken: it gets another one with the next epoch.
    assert (due, feed.live) == ([], False)
    assert feed.place == Mark("a", marks.LAST)


def test_a_count_that_went_back_is_noticed_though_it_has_caught_up_meanwhile() -> None:
    feed = live_after(b"one", b"two", b"three", b"four")
    feed.take(Mark("a", 3), b"new three", room=True)
    feed.take(Mark("a", 4), b"new four", room=True)
    feed.asked()
    rewound = Page("a", 4, cursor=0, oldest=1, start=2, bodies=(b"new three", b"new four"))

    due = feed.take_page(rewound)
    place = feed.place
    feed.asked()
    again = (b"one", b"two", b"new three", b"new four")
    due += feed.take_page(Page("b", 4, cursor=0, oldest=1, start=0, bodies=again))

    assert place == Mark("a", marks.LAST)
    assert [body for _, body in due] == list(again)
    assert (feed.live, feed.after) == (True, Mark("b", 4))
