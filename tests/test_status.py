"""The words for how an instance is."""

import pytest

from switchboard_operator.broker.base import Health
from switchboard_operator.web.status import Status, duration

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute"),
        (59.9, "less than a minute"),
        (60, "1 minute"),
        (2 * MINUTE + 59, "2 minutes"),
        (HOUR, "1 hour"),
        (HOUR + MINUTE, "1 hour 1 minute"),
        (23 * HOUR + 59 * MINUTE + 59.9, "23 hours 59 minutes"),
        (DAY + 5 * MINUTE + 1, "1 day 5 minutes"),
        (400 * DAY + 2 * HOUR + 3 * MINUTE, "400 days 2 hours"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("redis", "listening", "concierge", "draining", "summary"),
    [
        (None, True, "1.0", False, "All is well."),
        (True, True, "1.0", False, "All is well."),
        (True, True, None, False, "The Concierge is missed."),
        (False, True, "1.0", False, "Redis is missed."),
        (True, False, "1.0", False, "Redis is missed."),
        (False, False, None, False, "Redis is missed."),
        (False, False, None, True, "This instance is shutting down."),
    ],
)
def test_the_summary_names_what_matters_most(
    redis: bool | None, listening: bool, concierge: str | None, draining: bool, summary: str
) -> None:
    health = Health(redis=redis, listening=listening)

    status = Status(
        version="1", uptime=0, concierge=concierge, health=health, draining=draining, sockets=0
    )

    assert status.in_words()["summary"].startswith(summary)
