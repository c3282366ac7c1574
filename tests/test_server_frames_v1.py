"""The wire `switchboard.v1`: what clients are told, and whether they can resume."""

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import server_frames_v1
from switchboard_operator.client_frames_v1 import Open
from switchboard_operator.mailbox import EMPTY, Page
from switchboard_operator.marks import ELSEWHERE, NOWHERE, Mark
from switchboard_operator.server_frames_v1 import V1, Resumption

# Whether a client can resume


def page(last: int, start: int, oldest: int = 1, epoch: str = "a") -> Page:
    first = max(start + 1, oldest)
    bodies = tuple(b"%d" % number for number in range(first, last + 1))
    return Page(epoch, last=last, cursor=0, oldest=oldest, start=start, bodies=bodies)


RESUMPTIONS: Final[dict[str, tuple[Open, Page | None, Resumption]]] = {
    # No token
    "new": (Open(None, None), EMPTY, Resumption("new", 0, "")),
    "new, of a session that has postbacks": (
        Open(None, None),
        page(5, 3),
        Resumption("new", 2, "a:5"),
    ),
    "new, and says what it has": (
        Open(None, Mark("a", 3)),
        page(5, 3),
        Resumption("new", 2, "a:5"),
    ),
    "new, and some are gone": (
        Open(None, NOWHERE),
        page(5, 0, oldest=4),
        Resumption("new", 2, "a:5"),
    ),
    # Resumed
    "missed some": (Open("t", Mark("a", 3)), page(5, 3), Resumption("", 2, "a:5")),
    "missed none": (Open("t", Mark("a", 5)), page(5, 5), Resumption("", 0, "a:5")),
    "missed none, and nothing is kept": (
        Open("t", Mark("a", 5)),
        page(5, 5, oldest=6),
        Resumption("", 0, "a:5"),
    ),
    "missed all that is kept": (
        Open("t", Mark("a", 3)),
        page(5, 3, oldest=4),
        Resumption("", 2, "a:5"),
    ),
    "had none, and none is there": (Open("t", NOWHERE), EMPTY, Resumption("", 0, "")),
    "had none, and missed all": (Open("t", NOWHERE), page(5, 0), Resumption("", 5, "a:5")),
    "by the cursor": (Open("t", None), page(5, 3), Resumption("", 2, "a:5")),
    "by the cursor, which has all": (Open("t", None), page(5, 5), Resumption("", 0, "a:5")),
    "more than a page": (Open("t", Mark("a", 3)), page(90, 3), Resumption("", 87, "a:90")),
    # Another epoch
    "epoch": (
        Open("t", Mark("a", 3)),
        page(5, 0, epoch="b"),
        Resumption("epoch", 5, "b:5"),
    ),
    "epoch, and some are gone": (
        Open("t", Mark("a", 3)),
        page(5, 0, oldest=4, epoch="b"),
        Resumption("epoch", 2, "b:5"),
    ),
    "epoch without a postback": (
        Open("t", Mark("a", 3)),
        page(0, 0, epoch="b"),
        Resumption("epoch", 0, ""),
    ),
    "epoch: nothing is stored": (
        Open("t", Mark("a", 3)),
        EMPTY,
        Resumption("epoch", 0, ""),
    ),
    "epoch: the id was none of ours": (
        Open("t", ELSEWHERE),
        page(5, 0),
        Resumption("epoch", 5, "a:5"),
    ),
    "epoch: the id was none of ours, and nothing is stored": (
        Open("t", ELSEWHERE),
        EMPTY,
        Resumption("epoch", 0, ""),
    ),
    # Too old
    "expired": (
        Open("t", Mark("a", 3)),
        page(5, 3, oldest=6),
        Resumption("expired", 0, "a:5"),
    ),
    "expired, by the cursor": (
        Open("t", None),
        page(5, 0, oldest=6),
        Resumption("expired", 0, "a:5"),
    ),
    "expired, had none": (
        Open("t", NOWHERE),
        page(5, 0, oldest=6),
        Resumption("expired", 0, "a:5"),
    ),
    # Too many
    "trimmed": (
        Open("t", Mark("a", 3)),
        page(9, 3, oldest=8),
        Resumption("trimmed", 2, "a:9"),
    ),
    "trimmed by one": (
        Open("t", Mark("a", 3)),
        page(9, 3, oldest=5),
        Resumption("trimmed", 5, "a:9"),
    ),
    "trimmed, by the cursor": (
        Open("t", None),
        page(9, 3, oldest=8),
        Resumption("trimmed", 2, "a:9"),
    ),
    "trimmed, had none": (
        Open("t", NOWHERE),
        page(9, 0, oldest=8),
        Resumption("trimmed", 2, "a:9"),
    ),
    # The mailbox does not answer
    "not known yet": (
        Open("t", Mark("a", 3)),
        None,
        Resumption("", 0, "a:3"),
    ),
    "not known yet, by the cursor": (Open("t", None), None, Resumption("", 0, "")),
    "not known yet, had none": (Open("t", NOWHERE), None, Resumption("", 0, "")),
    "new, not known yet": (Open(None, None), None, Resumption("new", 0, "")),
}


@pytest.mark.parametrize(
    ("opened", "answer", "expected"), RESUMPTIONS.values(), ids=RESUMPTIONS.keys()
)
def test_a_client_learns_whether_it_resumes_and_what_follows(
    opened: Open, answer: Page | None, expected: Resumption
) -> None:
    lost = 0 if answer is None else answer.first - answer.start - 1
    assert server_frames_v1.resumption(opened, answer, lost) == expected


# What clients are told


def test_a_hello_to_a_client_that_resumes() -> None:
    hello = server_frames_v1.hello(
        "s1.0f", "token", Resumption("", 3, "k3f9:44"), heartbeat=25.0, retry=5000
    )

    assert hello == (
        b'{"type":"hello","session":"s1.0f","token":"token","last":"k3f9:44","resumed":true,'
        b'"missed":3,"heartbeat":25,"retry":[0,5000]}'
    )


@pytest.mark.parametrize("why", ["new", "epoch", "expired", "trimmed"])
def test_a_hello_to_a_client_that_does_not_resume_says_why(why: str) -> None:
    hello = server_frames_v1.hello("s1.0f", "token", Resumption(why, 0, ""), heartbeat=0.5, retry=0)

    assert json.loads(hello) == {
        "type": "hello",
        "session": "s1.0f",
        "token": "token",
        "last": "",
        "resumed": False,
        "why": why,
        "missed": 0,
        "heartbeat": 0.5,
        "retry": [0, 0],
    }


def test_the_frames_that_tell_what_became_of_a_message() -> None:
    told = [
        server_frames_v1.accepted("a1-7"),
        server_frames_v1.refused("a1-8", "concierge_unavailable", retry=True),
        server_frames_v1.refused("a1-9", "too_large", retry=False),
    ]

    assert told == [
        b'{"type":"ack","cid":"a1-7","ok":true}',
        b'{"type":"ack","cid":"a1-8","ok":false,"code":"concierge_unavailable","retry":true}',
        b'{"type":"ack","cid":"a1-9","ok":false,"code":"too_large","retry":false}',
    ]


@given(st.text(min_size=1, max_size=64))
def test_whatever_the_cid_its_ack_has_the_same(cid: str) -> None:
    acks = [server_frames_v1.accepted(cid), server_frames_v1.refused(cid, "bad_frame", retry=False)]

    assert [json.loads(ack)["cid"] for ack in acks] == [cid, cid]


def test_the_answer_to_a_frame_that_is_none() -> None:
    answer = server_frames_v1.bad_frame("the frame is not JSON")

    assert answer == b'{"type":"error","code":"bad_frame","detail":"the frame is not JSON"}'


def test_the_frames_that_are_always_the_same() -> None:
    assert V1.typing == b'{"type":"typing","ms":10000}'
    assert V1.heartbeat == b'{"type":"heartbeat"}'


BODIES: Final[dict[str, bytes]] = {
    "least": b'{"to":"alice"}',
    "white space": b' \r\n\t{ "to" : "alice" }\n ',
    "numbers and order": b'{"z":1.0,"to":"alice","a":12345678901234567890123,"z":-0.1E+4}',
    "escapes": rb'{"to":"alice","body":"\u0048\/\ud83d\udc36\""}',
    "not ASCII": '{"to":"alice","body":"é\u2028🐶"}'.encode(),
    "per cent": b'{"to":"alice","body":"100 %s %d %%"}',
    "keys like ours": b'{"to":"alice","type":"message","id":"k3f9:1","data":{}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_postback_is_untouched_inside_its_frame(body: bytes) -> None:
    with_id = V1.message(body, Mark("k3f9", 42))
    without = V1.message(body, None)

    assert with_id == b'{"type":"message","id":"k3f9:42","data":' + body + b"}"
    assert without == b'{"type":"message","data":' + body + b"}"
    content = json.loads(body)
    assert json.loads(with_id) == {"type": "message", "id": "k3f9:42", "data": content}
    assert json.loads(without) == {"type": "message", "data": content}
