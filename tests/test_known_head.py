"""Posts with a head like one that is known are the posts that `plain_http` recognises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import plain_http
from switchboard_operator.known_head import KnownHead, Recogniser
from switchboard_operator.plain_http import Post, Verdict

MOST = 1000  # bytes of a body
HEAD = (
    b"POST / HTTP/1.1\r\nHost: example:5555 (a|b)*\r\nContent-Type: application/json\r\n"
    b"date: Mon, 30 Nov 2026 22:54:10 GMT\r\nX-Authorization-Content-SHA256: 47DEQpj8HBSa+/Tw=\r\n"
    b"Authorization: APIAuth-HMAC-SHA256 bot:aGVsbG8=\r\nContent-Length: 14\r\nAccept: */*\r\n\r\n"
)
BODY = b'{"to":"alice"}'


def known() -> KnownHead:
    return KnownHead(HEAD)


def test_the_head_itself_is_known_with_all_its_fields() -> None:
    assert known().recognise(HEAD + BODY, MOST) == plain_http.recognise(HEAD + BODY, MOST)
    assert isinstance(plain_http.recognise(HEAD + BODY, MOST), Post)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Mon, 30 Nov", b"Tue, 1 Dec"),
        (b"47DEQpj8HBSa+/Tw=", b"x"),
        (b"APIAuth-HMAC-SHA256 bot:aGVsbG8=", b"APIAuth another:d29ybGQ="),
        (b"Content-Length: 14", b"Content-Length: 9"),
    ],
)
def test_what_a_signature_changes_may_be_another(old: bytes, new: bytes) -> None:
    data = HEAD.replace(old, new) + BODY

    post = known().recognise(data, MOST)

    assert post == plain_http.recognise(data, MOST)
    assert isinstance(post, Post)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST / ", b"POST /x "),
        (b"example:5555", b"example:5556"),
        (b"(a|b)*", b"aab"),  # it is no pattern
        (b"Accept: */*", b"Accept: text/*"),
        (b"Accept: */*\r\n", b""),
        (b"Accept: */*\r\n", b"Accept: */*\r\nUpgrade: websocket\r\n"),
        (b"Mon, 30", b"Mon,\t30"),
        (b"Mon, 30", b"Mon,\x0030"),
        (b"Mon, 30", b"Mon, \xc3\xa9"),
        (b"GMT\r\n", b"GMT \r\n"),
        (b"date: ", b"date:  "),
        (b"date: ", b"Date: "),
        (b"date: Mon, 30 Nov 2026 22:54:10 GMT", b"date: "),
        (b"Content-Length: 14", b"Content-Length: 014"),
        (b"Content-Length: 14", b"Content-Length: 1e1"),
        (b"Content-Length: 14", b"Content-Length: 0"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_anything_else_is_not_like_it(old: bytes, new: bytes) -> None:
    assert known().recognise(HEAD.replace(old, new, 1) + BODY, MOST) is None


@pytest.mark.parametrize("cut", [1, 5, 13])
def test_a_body_that_is_not_all_there_is_waited_for(cut: int) -> None:
    assert known().recognise(HEAD + BODY[:-cut], MOST) is Verdict.MORE


def test_a_body_that_is_too_long_is_somebody_elses() -> None:
    data = HEAD.replace(b"Length: 14", b"Length: %d" % (MOST + 1))

    assert known().recognise(data, MOST) is Verdict.OTHER


@given(
    st.binary(max_size=6) | st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"  ", b": ", b":  "]),
    st.integers(0, len(HEAD)),
    st.integers(0, 3),
)
def test_however_it_is_spoilt_it_is_read_as_plain_http_reads_it_or_not_at_all(
    spoilt: bytes, place: int, gone: int
) -> None:
    data = HEAD[:place] + spoilt + HEAD[place + gone :] + BODY

    post = known().recognise(data, MOST)

    if isinstance(post, Post) and b":  " not in data:  # which is nothing special in a value
        assert post == plain_http.recognise(data, MOST)


def test_a_head_is_known_from_when_it_is_learnt() -> None:
    recogniser, data = Recogniser(), HEAD + BODY
    calls = []

    for _ in range(3):
        post = recogniser.recognise(data, MOST)
        assert isinstance(post, Post)
        calls.append(recogniser._was_known)
        recogniser.learn(data, post)

    assert calls == [False, True, True]


def test_another_head_is_not_learnt_too_soon() -> None:
    recogniser = Recogniser()
    other = HEAD.replace(b"Accept: */*", b"Accept: text/*")
    known_ones = []

    for data in (HEAD + BODY, other + BODY, other + BODY, HEAD + BODY):
        post = recogniser.recognise(data, MOST)
        assert isinstance(post, Post)
        known_ones.append(recogniser._was_known)
        recogniser.learn(data, post)

    assert known_ones == [False, False, False, True]
