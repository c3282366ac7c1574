"""A memory for a while: what it knows, for how long, and how much."""

from switchboard_operator.broker.recent import Recent
from tests.switchboards import eventually


def remembered(recent: Recent) -> int:
    return len(recent._known)  # its memory, which nothing else shows


async def test_what_was_put_is_known() -> None:
    recent = Recent(lifetime=60, most=10)

    recent.put("alice", "1", "accepted")

    assert recent.get("alice", "1") == "accepted"


async def test_what_was_not_put_is_not_known() -> None:
    recent = Recent(lifetime=60, most=10)

    assert recent.get("alice", "1") is None


async def test_sessions_have_keys_of_their_own() -> None:
    recent = Recent(lifetime=60, most=10)

    recent.put("alice", "1", "accepted")
    recent.put("bob", "1", "rejected")

    assert (recent.get("alice", "1"), recent.get("bob", "1")) == ("accepted", "rejected")
    assert recent.get("alice", "2") is None


async def test_an_empty_text_is_known_too() -> None:
    recent = Recent(lifetime=60, most=10)

    recent.put("alice", "1", "")

    assert recent.get("alice", "1") == ""


async def test_the_latest_text_counts() -> None:
    recent = Recent(lifetime=60, most=10)

    recent.put("alice", "1", "first")
    recent.put("alice", "1", "second")

    assert recent.get("alice", "1") == "second"
    assert remembered(recent) == 1


async def test_what_is_too_old_is_forgotten() -> None:
    recent = Recent(lifetime=0.05, most=10)
    recent.put("alice", "1", "accepted")

    await eventually(lambda: recent.get("alice", "1") is None)


async def test_what_is_put_again_lives_on() -> None:
    recent = Recent(lifetime=0.1, most=10)
    recent.put("alice", "again", "text")
    recent.put("alice", "once", "text")

    def again_and_see() -> bool:
        recent.put("alice", "again", "text")
        return recent.get("alice", "once") is None

    await eventually(again_and_see)

    assert recent.get("alice", "again") == "text"


async def test_of_too_many_the_latest_are_known() -> None:
    recent = Recent(lifetime=60, most=3)

    for number in range(5):
        recent.put("alice", str(number), f"text {number}")

    known = [recent.get("alice", str(number)) for number in range(5)]
    assert known == [None, None, "text 2", "text 3", "text 4"]
    assert remembered(recent) == 3


async def test_what_is_put_again_is_among_the_latest() -> None:
    recent = Recent(lifetime=60, most=2)
    recent.put("alice", "1", "text")
    recent.put("alice", "2", "text")

    recent.put("alice", "1", "text again")
    recent.put("alice", "3", "text")

    assert recent.get("alice", "1") == "text again"
    assert recent.get("alice", "2") is None


async def test_memory_shrinks_again_after_a_rush() -> None:
    recent = Recent(lifetime=0.05, most=1000)
    for number in range(1000):
        recent.put(f"session {number}", "1", "text")
    await eventually(lambda: recent.get("session 999", "1") is None)

    recent.put("alice", "1", "text")

    assert remembered(recent) == 1
