"""The wire `switchboard.v1`: what clients say."""

import json
from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import client_frames_v1
from switchboard_operator.client_frames_v1 import BadMessage, Message, Open
from switchboard_operator.errors import BadFrame, ProtocolBroken
from switchboard_operator.frames import UserFrame
from switchboard_operator.marks import ELSEWHERE, NOWHERE, Mark

NOT_JSON = "the frame is not JSON"
TOO_DEEP = "the frame is nested too deeply"
NO_TYPE = "a frame is a JSON object with a type"
UNKNOWN = "the type is not known"
NO_CID = "a message has a cid, a string of 1 to 64 characters, none a control one"
NOT_A_MESSAGE = "a frame is a JSON object whose message is a string or null"
NOTHING_SAID = "a frame has a message or a payload"

DEEP = "[" * 100_000
DOG = "\U0001f436"


# The first frame


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ('{"type":"open"}', Open(None, None)),
        ('{"type":"open","token":null,"last":null}', Open(None, None)),
        ('{"type":"open","token":"t"}', Open("t", None)),
        ('{"type":"open","token":""}', Open("", None)),
        ('{"type":"open","token":"t","last":""}', Open("t", NOWHERE)),
        ('{"type":"open","token":"t","last":"k3f9:41"}', Open("t", Mark("k3f9", 41))),
        ('{"type":"open","last":"k3f9:41"}', Open(None, Mark("k3f9", 41))),
        (' {"x":[{}],"last":"","type" : "open", "token":"t"}\n', Open("t", NOWHERE)),
        (r'{"type":"\u006fpen","token":"\u0074"}', Open("t", None)),
        ('{"type":"message","type":"open","token":"s","token":"t"}', Open("t", None)),
    ],
    ids=[
        "least",
        "nulls",
        "token",
        "empty token",
        "got nothing yet",
        "last",
        "last without token",
        "unknown keys, white space",
        "escapes",
        "repeated keys",
    ],
)
def test_a_first_frame_is_read(text: str, opened: Open) -> None:
    assert client_frames_v1.parse_open(text) == opened


@pytest.mark.parametrize(
    "last", ["41", "k3f9", "K3F9:41", "k3f9:-1", "k3f9:41 ", "?:0", DOG, "x" * 10_000]
)
def test_a_last_id_that_is_none_of_ours_belongs_to_no_epoch(last: str) -> None:
    opened = client_frames_v1.parse_open(json.dumps({"type": "open", "token": "t", "last": last}))

    assert opened == Open("t", ELSEWHERE)


NO_OPENS: Final[dict[str, str]] = {
    "empty": "",
    "no JSON": "open",
    "byte-order mark": '\ufeff{"type":"open"}',
    "cut off": '{"type":"open"',
    "something after": '{"type":"open"}{}',
    "NaN": '{"type":"open","x":NaN}',
    "lone surrogate, escaped": r'{"type":"open","token":"\ud800"}',
    "lone surrogate as a character": '{"type":"open","token":"\ud800"}',
    "nested deeply": f'{{"type":"open","x":{DEEP}',
    "nothing but depth": DEEP,
    "null": "null",
    "string": '"open"',
    "array": '[{"type":"open"}]',
    "no type": '{"token":"t","last":"k3f9:41"}',
    "type null": '{"type":null}',
    "type a number": '{"type":1}',
    "another type": '{"type":"hello"}',
    "upper case": '{"type":"OPEN"}',
    "a message": '{"type":"message","cid":"1","message":"Hi"}',
    "a classic message": '{"message":"Hi"}',
    "token a number": '{"type":"open","token":1}',
    "token an object": '{"type":"open","token":{}}',
    "last a number": '{"type":"open","last":41}',
    "last an array": '{"type":"open","last":["k3f9",41]}',
}


@pytest.mark.parametrize("text", NO_OPENS.values(), ids=NO_OPENS)
def test_any_other_first_frame_breaks_the_protocol(text: str) -> None:
    with pytest.raises(ProtocolBroken):
        client_frames_v1.parse_open(text)


@given(st.text(st.characters()))
def test_no_first_frame_raises_anything_else(text: str) -> None:
    with pytest.raises(ProtocolBroken):
        client_frames_v1.parse_open(text)


# Messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type":"message","cid":"a1-7","message":"Hi"}',
            Message("a1-7", UserFrame(message="Hi")),
        ),
        (
            '{"type":"message","cid":"1","message":null}',
            Message("1", UserFrame(message=None)),
        ),
        (
            '{"type":"message","cid":"1","payload": {"z":1.0, "a":12345678901234567890123} }',
            Message("1", UserFrame(payload=msgspec.Raw(b'{"z":1.0, "a":12345678901234567890123}'))),
        ),
        (
            '{"payload":null,"x":[],"message":"","cid":"1","type":"message"}',
            Message("1", UserFrame(message="", payload=msgspec.Raw(b"null"))),
        ),
        (
            r'{"type":"mess\u0061ge","cid":"\ud83d\udc36","message":"\ud83d\udc36"}',
            Message(DOG, UserFrame(message=DOG)),
        ),
        (
            '{"type":"open","type":"message","cid":"1","cid":"2","message":"a","message":"b"}',
            Message("2", UserFrame(message="b")),
        ),
    ],
    ids=["message", "null", "payload", "both, other order, unknown key", "escapes", "repeated"],
)
def test_a_message_is_read(text: str, message: Message) -> None:
    assert client_frames_v1.parse_message(text) == message


@pytest.mark.parametrize("text", ['{"type":"open"}', '{"type":"message","cid":"1","type":"open"}'])
def test_a_second_open_breaks_the_protocol(text: str) -> None:
    with pytest.raises(ProtocolBroken):
        client_frames_v1.parse_message(text)


WITHOUT_CID: Final[dict[str, tuple[str, str]]] = {
    "empty": ("", NOT_JSON),
    "no JSON": ("Hello", NOT_JSON),
    "byte-order mark": ('\ufeff{"type":"message","cid":"1","message":"Hi"}', NOT_JSON),
    "cut off": ('{"type":"message","cid":"1","message":"Hi"', NOT_JSON),
    "something after": ('{"type":"message","cid":"1","message":"Hi"}]', NOT_JSON),
    "NaN": ('{"type":"message","cid":"1","payload":NaN}', NOT_JSON),
    "minus Infinity": ('{"type":"message","cid":"1","payload":[-Infinity]}', NOT_JSON),
    "control character": ('{"type":"message","cid":"1","message":"a\nb"}', NOT_JSON),
    "lone surrogate in the cid": (r'{"type":"message","cid":"\ud800","message":"Hi"}', NOT_JSON),
    "lone surrogate in the message": (r'{"type":"message","cid":"1","message":"\udfff"}', NOT_JSON),
    "lone surrogate in a payload": (r'{"type":"message","cid":"1","payload":["\ud800"]}', NOT_JSON),
    "lone surrogate in a key": (
        r'{"type":"message","cid":"1","message":"","\ud800":1}',
        NOT_JSON,
    ),
    "lone surrogate as a character": (
        '{"type":"message","cid":"\ud800","message":"Hi"}',
        NOT_JSON,
    ),
    "payload nested deeply": (f'{{"type":"message","cid":"1","payload":{DEEP}', TOO_DEEP),
    "unknown key nested deeply": (
        f'{{"x":{DEEP}{"]" * 100_000},"type":"message","cid":"1","message":"Hi"}}',
        TOO_DEEP,
    ),
    "null": ("null", NO_TYPE),
    "string": ('"message"', NO_TYPE),
    "array": ('[{"type":"message","cid":"1","message":"Hi"}]', NO_TYPE),
    "no keys": ("{}", NO_TYPE),
    "a classic message": ('{"message":"Hi"}', NO_TYPE),
    "no type beside a cid": ('{"cid":"1","message":"Hi"}', NO_TYPE),
    "type null": ('{"type":null,"cid":"1","message":"Hi"}', NO_TYPE),
    "type an array": ('{"type":["message"],"cid":"1","message":"Hi"}', NO_TYPE),
    "type empty": ('{"type":"","cid":"1","message":"Hi"}', UNKNOWN),
    "type in upper case": ('{"type":"Message","cid":"1","message":"Hi"}', UNKNOWN),
    "type of ours": ('{"type":"ack","cid":"1","ok":true}', UNKNOWN),
    "no cid": ('{"type":"message","message":"Hi"}', NO_CID),
    "cid null": ('{"type":"message","cid":null,"message":"Hi"}', NO_CID),
    "cid a number": ('{"type":"message","cid":7,"message":"Hi"}', NO_CID),
    "cid true": ('{"type":"message","cid":true,"message":"Hi"}', NO_CID),
    "cid an object": ('{"type":"message","cid":{"cid":"1"},"message":"Hi"}', NO_CID),
    "cid an array": ('{"type":"message","cid":["1"],"message":"Hi"}', NO_CID),
    "cid empty": ('{"type":"message","cid":"","message":"Hi"}', NO_CID),
    "cid too long": (f'{{"type":"message","cid":"{"x" * 65}","message":"Hi"}}', NO_CID),
    "last of two cids empty": ('{"type":"message","cid":"1","cid":"","message":"Hi"}', NO_CID),
    "neither cid nor message": ('{"type":"message"}', NO_CID),
}


@pytest.mark.parametrize(("text", "detail"), WITHOUT_CID.values(), ids=WITHOUT_CID)
def test_a_frame_without_a_usable_cid_is_refused_with_the_reason(text: str, detail: str) -> None:
    with pytest.raises(BadFrame) as refused:
        client_frames_v1.parse_message(text)

    assert refused.type is BadFrame
    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("rest", "detail"),
    [
        ("", NOTHING_SAID),
        (',"text":"Hi"', NOTHING_SAID),
        (',"message":1', NOT_A_MESSAGE),
        (',"message":["Hi"]', NOT_A_MESSAGE),
        (',"message":{},"payload":{}', NOT_A_MESSAGE),
    ],
    ids=["nothing", "unknown keys", "number", "array", "object beside a payload"],
)
def test_a_message_that_cannot_be_used_is_refused_by_its_cid(rest: str, detail: str) -> None:
    with pytest.raises(BadMessage) as refused:
        client_frames_v1.parse_message(f'{{"type":"message","cid":"a1-7"{rest}}}')

    assert (refused.value.cid, refused.value.detail) == ("a1-7", detail)


@given(st.text(st.characters()))
def test_no_text_raises_anything_but_bad_frame(text: str) -> None:
    with pytest.raises(BadFrame) as refused:
        client_frames_v1.parse_message(text)

    assert refused.value.detail in {NOT_JSON, NO_TYPE, UNKNOWN}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["open", "message", "ack"]) | json_values,
            "cid": st.text(st.characters(), max_size=70) | json_values,
            "message": st.text(st.characters()) | json_values,
            "payload": json_values,
            "token": json_values,
            "last": json_values,
        },
    ),
    st.booleans(),
)
def test_no_object_raises_anything_that_has_no_answer(content: Any, ascii_only: bool) -> None:
    text = json.dumps(content, ensure_ascii=ascii_only)

    for parse in (
        client_frames_v1.parse_open,
        client_frames_v1.parse_message,
        client_frames_v1.parse_cid,
    ):
        with suppress(BadFrame, ProtocolBroken):
            parse(text)


# The cid alone, of a frame that is too long to be read


@pytest.mark.parametrize("cid", ["1", "a1-7", "x" * 64, DOG * 64, " ", "é", '"\\/'])
def test_a_cid_has_1_to_64_characters(cid: str) -> None:
    text = json.dumps({"type": "message", "cid": cid, "message": "x" * 100_000})

    assert client_frames_v1.parse_cid(text) == cid


@pytest.mark.parametrize(
    "text",
    [
        '{"cid":"1"}',
        '{"message":0,"type":null,"cid":"1"}',
        '{"cid":"2","cid":"1"}',
        r'{"c\u0069d":"\u0031"}',
    ],
    ids=["alone", "nonsense beside it", "repeated", "escapes"],
)
def test_a_cid_is_read_whatever_else_there_is(text: str) -> None:
    assert client_frames_v1.parse_cid(text) == "1"


@pytest.mark.parametrize(
    ("text", "detail"),
    [row for name, row in WITHOUT_CID.items() if row[1] not in {NO_TYPE, UNKNOWN}]
    + [("null", NO_CID), ('["cid"]', NO_CID), ("{}", NO_CID)],
    ids=[name for name, row in WITHOUT_CID.items() if row[1] not in {NO_TYPE, UNKNOWN}]
    + ["null", "array", "no keys"],
)
def test_without_a_usable_cid_there_is_none(text: str, detail: str) -> None:
    with pytest.raises(BadFrame) as refused:
        client_frames_v1.parse_cid(text)

    assert refused.value.detail == detail
