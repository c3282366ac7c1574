"""The one kind of request that is recognised by its bytes, and all that is not."""

from http import HTTPStatus
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator.plain_http import (
    MOST_FIELDS,
    MOST_HEAD,
    Post,
    Verdict,
    answer,
    recognise,
)

MOST: Final = 100
BODY: Final = b'{"to":"alice"}'
LINES: Final = ("Host: x", "Content-Type: application/json", f"Content-Length: {len(BODY)}")


def request(*more: str, lines: tuple[str, ...] = LINES, body: bytes = BODY) -> bytes:
    """Return a POST with *more* lines at its head."""
    return "\r\n".join(["POST / HTTP/1.1", *lines, *more, "", ""]).encode("latin-1") + body


def sized_head(size: int) -> bytes:
    """Return a request whose head, with the line end that closes it, has *size* bytes."""
    padding = size - len(request("X: ", body=b""))
    return request("X: " + "x" * padding)


def test_a_plain_post_is_recognised() -> None:
    post = recognise(request("X-Two-Words: a, b"), MOST)

    assert isinstance(post, Post)
    assert dict(post.fields) == {
        "host": "x",
        "content-type": "application/json",
        "content-length": "14",
        "x-two-words": "a, b",
    }
    assert post.body == BODY
    assert post.size == len(request("X-Two-Words: a, b"))


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("Connection: keep-alive",),
        ("connection: Keep-Alive",),
        ("Accept: */*", "User-Agent: Ruby", "Accept-Encoding: gzip;q=1.0,identity;q=0.3"),
        ("!#$%&'*+.^_`|~09Az-: ok",),
        ("X: a:b: c",),
        ("X: ~",),
    ],
)
def test_other_fields_may_be_there(more: tuple[str, ...]) -> None:
    assert isinstance(recognise(request(*more), MOST), Post)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_follows_is_not_touched(kind: type[bytes | bytearray]) -> None:
    data = kind(request() + b"GET / HTTP/1.1")

    post = recognise(data, MOST)

    assert isinstance(post, Post)
    assert type(post.body) is bytes
    assert data[post.size :] == b"GET / HTTP/1.1"


@pytest.mark.parametrize("length", range(len(request())))
def test_a_request_cut_off_anywhere_wants_more(length: int) -> None:
    assert recognise(request()[:length], MOST) is Verdict.MORE


NOT_PLAIN: Final = {
    "another method": request().replace(b"POST", b"PUT ", 1),
    "lower-case method": request().replace(b"POST", b"post", 1),
    "query": request().replace(b" / ", b" /?x ", 1),
    "absolute target": request().replace(b" / ", b" http://x/ ", 1),
    "two blanks": request().replace(b" / ", b"  / ", 1),
    "HTTP/1.0": request().replace(b"1.1", b"1.0", 1),
    "line end first": b"\r\n" + request(),
    "bare LF everywhere": request().replace(b"\r\n", b"\n") + b"\r\n\r\n",
    "bare LF after the request line": request().replace(b"\r\n", b"\n", 1),
    "bare LF between fields": request("X: 1\nY: 2"),
    "bare CR between fields": request("X: 1\rY: 2"),
    "obs-fold": request("X: 1\r\n 2"),
    "obs-fold with a tab": request("X: 1\r\n\t2"),
    "obs-fold first": request(lines=(" X: 1", *LINES)),
    "no field at all": request(lines=()),
    "no host": request(lines=LINES[1:]),
    "no length": request(lines=LINES[:2]),
    "length with a sign": request(lines=(*LINES[:2], "Content-Length: +14")),
    "length negative": request(lines=(*LINES[:2], "Content-Length: -14")),
    "length with a zero first": request(lines=(*LINES[:2], "Content-Length: 014")),
    "length in hexadecimal": request(lines=(*LINES[:2], "Content-Length: 0xe")),
    "length with an underscore": request(lines=(*LINES[:2], "Content-Length: 1_4")),
    "length in a list": request(lines=(*LINES[:2], "Content-Length: 14, 14")),
    "length empty": request(lines=(*LINES[:2], "Content-Length: ")),
    "length zero": request(lines=(*LINES[:2], "Content-Length: 0"), body=b""),
    "length too great": request(lines=(*LINES[:2], f"Content-Length: {MOST + 1}")),
    "length immense": request(lines=(*LINES[:2], f"Content-Length: {'9' * 5000}")),
    "length twice": request("Content-Length: 14"),
    "length twice, in other letters": request("content-length: 14"),
    "field twice": request("X: 1", "x: 2"),
    "chunked": request("Transfer-Encoding: chunked"),
    "chunked, in other letters": request("TRANSFER-encoding: identity"),
    "trailer": request("Trailer: X"),
    "expect": request("Expect: 100-continue"),
    "upgrade": request("Upgrade: websocket"),
    "old upgrade": request("Sec-WebSocket-Key1: 1"),
    "encoded": request("Content-Encoding: gzip"),
    "identity": request("Content-Encoding: identity"),
    "close": request("Connection: close"),
    "close, by an old name": request("Proxy-Connection: close"),
    "connection with more": request("Connection: keep-alive, Upgrade"),
    "blank before the colon": request("X : 1"),
    "blank before the name": request(" X: 1"),
    "tab before the value": request("X:\t1"),
    "tab in the value": request("X: 1\t2"),
    "tab after the value": request("X: 1\t"),
    "blank after the value": request("X: 1 "),
    "two blanks before the value": request("X:  1"),
    "no blank before the value": request("X:1"),
    "no value": request("X: "),
    "no value and no blank": request("X:"),
    "no name": request(": 1"),
    "no colon": request("X"),
    "NUL": request("X: a\0b"),
    "NUL in the name": request("X\0: 1"),
    "DEL": request("X: \x7f"),
    "bell": request("X: \a"),
    "not ASCII": request("X: \xe9"),
    "NEL": request("X: a\x85b"),
    "name not ASCII": request("\xe9: 1"),
    "name with a delimiter": request("X(: 1"),
    "too many fields": request(*(f"X{number}: 1" for number in range(MOST_FIELDS))),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_anything_else_is_not_recognised(name: str) -> None:
    assert recognise(NOT_PLAIN[name], MOST) is Verdict.OTHER


def test_a_head_has_a_bound() -> None:
    assert isinstance(recognise(sized_head(MOST_HEAD), MOST), Post)
    assert recognise(sized_head(MOST_HEAD + 1), MOST) is Verdict.OTHER


@pytest.mark.parametrize("size", [MOST_HEAD, MOST_HEAD + 1, 10 * MOST_HEAD])
def test_a_head_without_end_is_given_up_at_the_bound(size: int) -> None:
    endless = sized_head(20 * MOST_HEAD)

    assert recognise(endless[: MOST_HEAD - 1], MOST) is Verdict.MORE
    assert recognise(endless[:size], MOST) is Verdict.OTHER


@pytest.mark.parametrize("start", [b"G", b"POST /x", b"POST / HTTP/1.0", b"\x16\x03\x01", b"\r"])
def test_what_cannot_become_one_is_known_by_its_first_bytes(start: bytes) -> None:
    assert recognise(start, MOST) is Verdict.OTHER


def test_the_longest_body_is_recognised() -> None:
    lines = (*LINES[:2], f"Content-Length: {MOST}")

    post = recognise(request(lines=lines, body=b"x" * MOST), MOST)

    assert isinstance(post, Post)
    assert post.body == b"x" * MOST


_tokens = st.text(st.sampled_from("ABZabz09!#$%&'*+-.^_`|~"), min_size=1, max_size=9)
_words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=9)
_values = st.lists(_words, min_size=1, max_size=3).map(" ".join)
_bytes = request()


@given(st.dictionaries(_tokens.map("x-{}".format), _values, max_size=5), st.binary(min_size=1))
def test_the_fields_are_what_was_sent(fields: dict[str, str], body: bytes) -> None:
    fields = {name.lower(): value for name, value in fields.items() if ": " not in value + " "}
    lines = (*(f"{name}: {value}" for name, value in fields.items()), "Host: x")
    data = request(f"Content-Length: {len(body)}", lines=lines, body=body)

    post = recognise(data, 10_000)

    assert isinstance(post, Post)
    assert dict(post.fields) == fields | {"host": "x", "content-length": str(len(body))}
    assert post.body == body


@given(st.integers(0, len(_bytes) - len(BODY) - 1), st.integers(0, 255))
def test_a_head_with_a_control_character_or_no_ascii_is_not_recognised(at: int, byte: int) -> None:
    spoilt = _bytes[:at] + bytes([byte]) + _bytes[at + 1 :]

    found = recognise(spoilt, MOST)

    if spoilt != _bytes and not 0x20 <= byte < 0x7F:
        assert not isinstance(found, Post)


def test_an_answer_with_nothing_in_it_has_no_length() -> None:
    assert answer(HTTPStatus.NO_CONTENT, {"A": "1", "B": "2"}, "Date: now\r\n") == (
        b"HTTP/1.1 204 No Content\r\nA: 1\r\nB: 2\r\nDate: now\r\n\r\n"
    )


def test_an_answer_says_how_long_its_body_is() -> None:
    assert answer(HTTPStatus.ACCEPTED, {}, "D: 1\r\n", b"body") == (
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\nD: 1\r\n\r\nbody"
    )
