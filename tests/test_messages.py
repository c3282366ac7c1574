"""The JSON that goes to the Concierge, and the JSON that comes from it."""

import json
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import sessions
from switchboard_operator.errors import PostbackRefused
from switchboard_operator.marks import Mark
from switchboard_operator.messages import (
    Delivery,
    Postback,
    concierge_body,
    parse_broadcast,
    parse_postbacks,
    tag_place,
    untagged,
)


def parse(body: bytes, max_bytes: int = 1000, max_items: int = 3) -> list[Postback]:
    return parse_postbacks(body, "key", max_bytes=max_bytes, max_items=max_items)


wanted_or_not = pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "not wanted"])


def parsed(data: bytes, max_bytes: int = 1000) -> Delivery | None:
    """Read a broadcast that is wanted, whoever it is for."""
    return parse_broadcast(data, max_bytes=max_bytes, wanted=lambda _: True)


# To the Concierge


@pytest.mark.parametrize(
    ("message", "payload", "body"),
    [
        ("Hi é🐶", msgspec.UNSET, '{"Body":"Hi é🐶","From":"alice"}'),
        (None, msgspec.UNSET, '{"Body":null,"From":"alice"}'),
        ("", msgspec.UNSET, '{"Body":"","From":"alice"}'),
        (msgspec.UNSET, msgspec.Raw(b"null"), '{"From":"alice","Payload":null}'),
        (
            'a\n"\\\0',
            msgspec.Raw(b'{ "z":123456789012345678901234567890 ,"a":1.0}'),
            '{"Body":"a\\n\\"\\\\\\u0000","From":"alice",'
            '"Payload":{ "z":123456789012345678901234567890 ,"a":1.0}}',
        ),
    ],
    ids=["message", "null message", "empty message", "null payload", "both"],
)
def test_the_concierge_gets_what_is_there_and_no_more(
    message: str | msgspec.UnsetType | None, payload: msgspec.Raw | msgspec.UnsetType, body: str
) -> None:
    assert concierge_body("alice", message, payload).decode() == body


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_message_reaches_the_concierge_as_it_was_said(message: str) -> None:
    body = concierge_body("alice", message, msgspec.UNSET)

    assert json.loads(body) == {"Body": message, "From": "alice"}


# From the Concierge


@pytest.mark.parametrize(
    "body",
    [
        b'{"to":"alice"}',
        b' \n{ "body" : "Hi", "to" : "alice" }\r\n\t',
        rb'{"t\u006f":"\u0061lice","n":1E400}',
        b'{"to":"bob","to":"alice"}',
        '{"to":"alice","body":"é🐶"}'.encode(),
    ],
    ids=["least", "white space", "escapes", "repeated key", "not ASCII"],
)
def test_a_postback_is_kept_byte_for_byte(body: bytes) -> None:
    assert parse(body) == [Postback("alice", body, "key.0")]


def test_an_array_is_taken_apart_into_the_bytes_of_its_items() -> None:
    items = parse(b' [ {"to":"a"} ,\n{ "to" : "b" },{"n":1.0,"to":"a"}\t] ')

    assert items == [
        Postback("a", b'{"to":"a"}', "key.0"),
        Postback("b", b'{ "to" : "b" }', "key.1"),
        Postback("a", b'{"n":1.0,"to":"a"}', "key.2"),
    ]


NOT_JSON = "the body is not JSON"
NOT_A_POSTBACK = "a postback is a JSON object whose to is a string"
NO_SESSION = "to is not a session id"
TOO_DEEP = "the body is nested too deeply"
ITEMS = "an array holds 1 to 3 postbacks"

BAD_BODIES: Final[dict[str, tuple[bytes, str]]] = {
    "empty": (b"", NOT_JSON),
    "white space": (b" ", NOT_JSON),
    "byte-order mark": (b'\xef\xbb\xbf{"to":"alice"}', NOT_JSON),
    "byte-order mark before an array": (b'\xef\xbb\xbf[{"to":"alice"}]', NOT_JSON),
    "invalid UTF-8 in what is skipped": (b'{"to":"alice","x":"\xff"}', NOT_JSON),
    "invalid UTF-8 in an array": (b'[{"to":"alice","x":"\xff"}]', NOT_JSON),
    "lone surrogate in what is skipped": (rb'{"to":"alice","x":"\ud800"}', NOT_JSON),
    "NaN in what is skipped": (b'{"to":"alice","x":NaN}', NOT_JSON),
    "NaN in an array": (b'[{"to":"alice","x":NaN}]', NOT_JSON),
    "cut off": (b'{"to":"alice"', NOT_JSON),
    "array cut off": (b'[{"to":"alice"},', NOT_JSON),
    "something after": (b'{"to":"alice"}]', NOT_JSON),
    "no object": (b'"alice"', NOT_A_POSTBACK),
    "no to": (b'{"from":"alice"}', NOT_A_POSTBACK),
    "to null": (b'{"to":null}', NOT_A_POSTBACK),
    "to a number": (b'{"to":1}', NOT_A_POSTBACK),
    "array of arrays": (b'[[{"to":"alice"}]]', NOT_A_POSTBACK),
    "last of an array no object": (b'[{"to":"alice"},0]', NOT_A_POSTBACK),
    "to empty": (b'{"to":""}', NO_SESSION),
    "to with a line end": (rb'{"to":"alice\n"}', NO_SESSION),
    "to of ours": (b'{"to":"~probe.1"}', NO_SESSION),
    "to too long": (b'{"to":"' + b"a" * 129 + b'"}', NO_SESSION),
    "empty array": (b"[]", ITEMS),
    "4 items": (b"[" + b",".join([b'{"to":"a"}'] * 4) + b"]", ITEMS),
    "nested deeply": (b'{"to":"a","x":' + b"[" * 100_000, TOO_DEEP),
    "array nested deeply": (b"[" * 100_000 + b"]" * 100_000, TOO_DEEP),
    "item nested deeply": (b'[{"to":"a","x":' + b"[" * 100_000, TOO_DEEP),
}


@pytest.mark.parametrize(
    ("body", "detail"), [pytest.param(*row, id=name) for name, row in BAD_BODIES.items()]
)
def test_a_malformed_body_is_refused_with_the_reason(body: bytes, detail: str) -> None:
    with pytest.raises(PostbackRefused) as refused:
        parse(body, max_bytes=1_000_000)

    assert (refused.value.status, refused.value.code) == (400, "bad_postback")
    assert refused.value.detail == detail


@pytest.mark.parametrize("form", ["%s", "[%s]", '[{"to":"a"},%s]'], ids=["one", "array", "last"])
@pytest.mark.parametrize("spare", [0, -1], ids=["fits", "is too long"])
def test_max_bytes_bounds_each_postback_and_not_the_array(form: str, spare: int) -> None:
    postback = '{"to":"alice"}'
    body = (form % postback).encode()

    if spare == 0:
        assert parse(body, len(postback))[-1].body == postback.encode()
        return
    with pytest.raises(PostbackRefused) as refused:
        parse(body, len(postback) + spare)
    assert (refused.value.status, refused.value.code) == (413, "too_large")


@given(
    st.binary(max_size=30) | st.text(st.sampled_from('[]{}",:0 \\oa'), max_size=30).map(str.encode)
)
def test_a_body_is_refused_or_a_postback_and_nothing_else_is_raised(body: bytes) -> None:
    taken, status = list[Postback](), 0

    try:
        taken = parse(body)
    except PostbackRefused as refused:
        status = refused.status

    assert bool(taken) == (status != 400)
    assert all(sessions.is_valid(json.loads(postback.body)["to"]) for postback in taken)


# From other instances


@pytest.mark.parametrize(
    "data",
    [
        b'{"to":"alice"}',
        b' { "n" : 1.0, "to" : "alice" }\n',
        b'{"to":"alice","body":"' + b"x" * 1_000_000 + b'"}',
    ],
    ids=["least", "white space", "longer than a request may be"],
)
def test_a_broadcast_is_kept_byte_for_byte(data: bytes) -> None:
    assert parsed(data, len(data)) == Delivery("alice", data, None)


@pytest.mark.parametrize(
    "data",
    [row[0] for row in BAD_BODIES.values()] + [b'[{"to":"alice"}]'],
    ids=[*BAD_BODIES, "array of one"],
)
@wanted_or_not
def test_a_broadcast_that_is_no_postback_is_refused(data: bytes, *, wanted: bool) -> None:
    with pytest.raises(PostbackRefused) as refused:
        parse_broadcast(data, max_bytes=1_000_000, wanted=lambda _: wanted)

    assert refused.value.status == 400


@wanted_or_not
@pytest.mark.parametrize("tag", [b"", b'"switchboard":"k3f9:41",'], ids=["bare", "tagged"])
def test_a_broadcast_is_too_long_by_the_length_of_what_was_tagged(
    tag: bytes, *, wanted: bool
) -> None:
    data = b"{" + tag + b'"to":"alice"}'

    with pytest.raises(PostbackRefused) as refused:
        parse_broadcast(data, max_bytes=13, wanted=lambda _: wanted)
    longest = parse_broadcast(data, max_bytes=14, wanted=lambda _: wanted)

    assert refused.value.status == 413
    assert (longest is not None) == wanted


def test_of_a_broadcast_that_is_not_wanted_nothing_is_taken_but_whose_it_is() -> None:
    asked = []

    def wanted(session: str) -> bool:
        asked.append(session)
        return False

    taken = parse_broadcast(
        b'{"switchboard":"k3f9:41","to":"alice"}', max_bytes=1000, wanted=wanted
    )

    assert taken is None
    assert asked == ["alice"]


@given(st.text(st.sampled_from('[]{}",:0 \\oatx'), max_size=30) | st.just('"to":"a"}'))
def test_a_tag_makes_no_postback_of_what_is_none_nor_the_other_way_round(rest: str) -> None:
    def is_refused(data: bytes) -> bool:
        try:
            parsed(data)
        except PostbackRefused:
            return True
        return False

    body = b"{" + rest.encode()

    assert is_refused(body) == is_refused(b'{"switchboard":"k3f9:41",' + rest.encode())


TAGGED = {
    "tagged": (b'{"switchboard":"k3f9:41","to":"a"}', b'{"to":"a"}', Mark("k3f9", 41)),
    "white space": (
        b' \n{"switchboard":"k3f9:41", "to":"a"} ',
        b' \n{ "to":"a"} ',
        Mark("k3f9", 41),
    ),
    "no id": (b'{"switchboard":"","to":"a"}', b'{"to":"a"}', None),
    "its own key besides": (
        b'{"switchboard":"k3f9:41","switchboard":"k3f9:99","to":"a"}',
        b'{"switchboard":"k3f9:99","to":"a"}',
        Mark("k3f9", 41),
    ),
    "not first": (
        b'{"to":"a","switchboard":"k3f9:41"}',
        b'{"to":"a","switchboard":"k3f9:41"}',
        None,
    ),
    "absurd": (
        b'{"switchboard":"K:-1","to":"a"}',
        b'{"switchboard":"K:-1","to":"a"}',
        None,
    ),
}


@pytest.mark.parametrize(("data", "body", "mark"), TAGGED.values(), ids=TAGGED)
def test_a_tag_is_read_at_the_head_alone_and_cut_out(
    data: bytes, body: bytes, mark: Mark | None
) -> None:
    assert parsed(data) == Delivery("a", body, mark)


@pytest.mark.parametrize(
    "body",
    [
        b'{"to":"a"}',
        b' {"switchboard":"k3f9:41","to":"a"}',
        b'{"switchboard":"","to":"a"}',
        b'{"switchboard":"K:1","to":"a"}',
    ],
)
def test_whatever_a_body_begins_with_it_comes_out_as_it_went_in(body: bytes) -> None:
    cut = tag_place(body)
    with_tag = body[:cut] + b'"switchboard":"k3f9:7",' + body[cut:]

    assert parsed(untagged(body)) == Delivery("a", body, None)
    assert parsed(with_tag) == Delivery("a", body, Mark("k3f9", 7))
