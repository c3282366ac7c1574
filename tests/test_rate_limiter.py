"""How fast a session may send, against the textbook's bucket of tokens."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator.rate_limiter import RateLimiter

# Powers of two, so that sums of floats are exact and can be compared.
RATES = st.sampled_from([0.5, 1.0, 4.0, 16.0])
STEP = 1 / 32  # seconds


class Bucket:
    """Holds up to *burst* tokens, *rate* new ones a second; a message takes one."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = float(burst)
        self.seen = now

    def fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.seen) * self.rate)
        self.seen = now


_pauses = st.integers(0, 5) | st.integers(0, 400)
_events = st.lists(st.tuples(_pauses, st.sampled_from(["alice", "bob", "carol"])), max_size=60)


@given(RATES, st.integers(1, 5), _events)
def test_a_session_waits_as_long_as_a_bucket_of_tokens_says(
    rate: float, burst: int, events: list[tuple[int, str]]
) -> None:
    pace = RateLimiter(rate, burst)
    buckets: dict[str, Bucket] = {}
    times = accumulate(pause * STEP for pause, _ in events)

    for now, (_, session) in zip(times, events, strict=True):
        bucket = buckets.setdefault(session, Bucket(rate, burst, now))
        bucket.fill(now)

        delay = pace.delay(session, now)

        assert delay == max(0.0, (1 - bucket.tokens) / rate)
        if not delay:
            pace.spend(session, now)
            bucket.tokens -= 1


@given(RATES, st.integers(1, 5), st.integers(1, 30))
def test_who_waits_as_told_may_send_and_keeps_to_the_rate(
    rate: float, burst: int, count: int
) -> None:
    pace = RateLimiter(rate, burst)
    now = 0.0

    for _ in range(burst + count):
        now += pace.delay("alice", now)
        assert pace.delay("alice", now) == 0
        pace.spend("alice", now)

    assert now == count / rate


def test_to_ask_costs_nothing() -> None:
    pace = RateLimiter(rate=1, burst=1)

    asked = [pace.delay("alice", 0.0) for _ in range(10)]

    assert asked == [0.0] * 10


def test_sessions_do_not_slow_each_other_down() -> None:
    pace = RateLimiter(rate=1, burst=1)

    pace.spend("alice", 0.0)

    assert (pace.delay("alice", 0.0), pace.delay("bob", 0.0)) == (1.0, 0.0)


def test_who_spends_more_than_is_allowed_waits_for_all_of_it() -> None:
    pace = RateLimiter(rate=1, burst=2)

    for _ in range(5):
        pace.spend("alice", 0.0)

    assert pace.delay("alice", 0.0) == 4.0


def test_rate_0_is_no_bound_and_remembers_nobody() -> None:
    pace = RateLimiter(rate=0, burst=1)

    for number in range(1000):
        pace.spend("alice", 0.0)
        pace.spend(f"session {number}", 0.0)

    assert pace.delay("alice", 0.0) == 0
    assert remembered(pace) == 0


def remembered(pace: RateLimiter) -> int:
    return len(pace._whole_at)  # its memory, which nothing else shows


@pytest.mark.parametrize("spread", [0.0, 0.001], ids=["at once", "one by one"])
def test_memory_shrinks_again_after_a_rush(spread: float) -> None:
    pace = RateLimiter(rate=4, burst=8)
    for number in range(1000):
        pace.spend(f"session {number}", number * spread)
    rush = remembered(pace)

    for number in range(1000):
        pace.spend("alice", 100.0 + number)

    assert rush > 100
    assert remembered(pace) == 1


def test_memory_follows_the_sessions_of_the_last_moments() -> None:
    pace = RateLimiter(rate=4, burst=8)

    for number in range(10_000):
        pace.spend(f"session {number}", number / 100)

    assert remembered(pace) <= 26  # 100 sessions a second, each whole again after 0.25 s
