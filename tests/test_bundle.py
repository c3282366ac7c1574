"""Postbacks that come in one message: what is read of it, and what is none."""

from collections.abc import Iterable

import pytest

from switchboard_operator.broker import bundle
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery


class Here:
    """Wants what is for these."""

    def __init__(self, sessions: set[str]) -> None:
        self._sessions = sessions

    def has(self, session: str) -> bool:
        return session in self._sessions

    def has_any(self, sessions: Iterable[str]) -> bool:
        return any(session in self._sessions for session in sessions)


EVERYBODY = Here({"alice", "bob"})
TWO = b"k3f9:41 alice 9  bob 5\n" + b'{"n": 1}\n' + b'{"2"}'
ALICES = Delivery("alice", b'{"n": 1}\n', Mark("k3f9", 41))
BOBS = Delivery("bob", b'{"2"}', None)


@pytest.mark.parametrize(
    ("here", "found"),
    [
        ({"alice", "bob"}, [ALICES, BOBS]),
        ({"alice"}, [ALICES]),
        ({"bob"}, [BOBS]),
        ({"carol"}, []),
    ],
    ids=["both", "first", "last", "none"],
)
def test_those_are_read_whose_session_is_wanted(here: set[str], found: list[Delivery]) -> None:
    assert bundle.read(TWO, Here(here)) == found


def test_bodies_are_bytes_whatever_is_in_them() -> None:
    body = '{"é\n ":"🐶"}'.encode()
    data = b"a:1 alice %d\n" % len(body) + body

    assert bundle.read(data, EVERYBODY) == [Delivery("alice", body, Mark("a", 1))]


def test_one_may_be_empty() -> None:
    assert bundle.read(bundle.EMPTY, EVERYBODY) == []
    assert not bundle.has(bundle.EMPTY, "alice")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b'{"to":"alice"}',
        b"a:1 alice\n",
        b"a:1 alice 1 b:2\n1",
        b"a:1 alice x\n1",
        b"a:1 alice 2\n1",
        b"a:1 alice 1\n12",
        b"a:1 alice 1 \xff bob 1\n12",
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(bundle.BadBundle):
        bundle.read(data, EVERYBODY)


@pytest.mark.parametrize(
    ("session", "there"),
    [("alice", True), ("bob", True), ("ali", False), ("k3f9:41", False), ("2", False)],
)
def test_it_tells_whether_a_session_is_in_it(session: str, there: bool) -> None:
    assert bundle.has(TWO, session) == there
