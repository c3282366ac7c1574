"""Postbacks that come in one message: what is read of it, and what is none."""

import pytest

from switchboard_operator.broker import bundle
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery

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
    assert bundle.read(TWO, here.__contains__) == found


def test_bodies_are_bytes_whatever_is_in_them() -> None:
    body = '{"é\n ":"🐶"}'.encode()
    data = b"a:1 alice %d\n" % len(body) + body

    assert bundle.read(data, lambda _: True) == [Delivery("alice", body, Mark("a", 1))]


def test_one_may_be_empty() -> None:
    assert bundle.read(bundle.EMPTY, lambda _: True) == []
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
        bundle.read(data, lambda _: True)


@pytest.mark.parametrize(
    ("session", "there"),
    [("alice", True), ("bob", True), ("ali", False), ("k3f9:41", False), ("2", False)],
)
def test_it_tells_whether_a_session_is_in_it(session: str, there: bool) -> None:
    assert bundle.has(TWO, session) == there
