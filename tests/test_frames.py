"""What a user's frame may hold on the classic wire."""

import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import frames
from switchboard_operator.errors import BadFrame

NOT_JSON = "the frame is not JSON"
NOT_A_FRAME = "a frame is a JSON object whose message is a string or null"
EMPTY = "a frame has a message or a payload"
TOO_DEEP = "the frame is nested too deeply"

BAD_FRAMES: Final[dict[str, tuple[str, str]]] = {
    "empty": ("", NOT_JSON),
    "white space": (" \n", NOT_JSON),
    "no JSON": ("Hello", NOT_JSON),
    "byte-order mark": ('\ufeff{"message":"Hi"}', NOT_JSON),
    "no-break space before": ('\u00a0{"message":"Hi"}', NOT_JSON),
    "cut off": ('{"message":"Hi', NOT_JSON),
    "something after": ('{"message":"Hi"} x', NOT_JSON),
    "two objects": ('{"message":"Hi"}{"message":"Hi"}', NOT_JSON),
    "trailing comma": ('{"message":"Hi",}', NOT_JSON),
    "comment": ('{"message":"Hi"/**/}', NOT_JSON),
    "single quotes": ("{'message':'Hi'}", NOT_JSON),
    "key without quotes": ('{message:"Hi"}', NOT_JSON),
    "control character": ('{"message":"a\nb"}', NOT_JSON),
    "NUL": ('{"message":"a\0b"}', NOT_JSON),
    "unknown escape": (r'{"message":"\x41"}', NOT_JSON),
    "lone surrogate, escaped": (r'{"message":"\ud800"}', NOT_JSON),
    "lone surrogate in a payload": (r'{"payload":{"a":["\udfff"]}}', NOT_JSON),
    "lone surrogate in an unknown key": (r'{"message":"Hi","x":"\ud800"}', NOT_JSON),
    "lone surrogate in a key": (r'{"message":"Hi","\ud800":1}', NOT_JSON),
    "lone surrogate as a character": ('{"message":"\ud800"}', NOT_JSON),
    "NaN": ('{"payload":NaN}', NOT_JSON),
    "Infinity": ('{"payload":{"a":Infinity}}', NOT_JSON),
    "minus Infinity": ('{"message":"Hi","x":-Infinity}', NOT_JSON),
    "leading zero": ('{"payload":01}', NOT_JSON),
    "hexadecimal": ('{"payload":0x1}', NOT_JSON),
    "number without digits": ('{"payload":1.}', NOT_JSON),
    "exponent without digits": ('{"payload":1e}', NOT_JSON),
    "True": ('{"payload":True}', NOT_JSON),
    "null": ("null", NOT_A_FRAME),
    "true": ("true", NOT_A_FRAME),
    "number": ("1", NOT_A_FRAME),
    "string": ('"Hi"', NOT_A_FRAME),
    "array": ('[{"message":"Hi"}]', NOT_A_FRAME),
    "message a number": ('{"message":1}', NOT_A_FRAME),
    "message false": ('{"message":false}', NOT_A_FRAME),
    "message an object": ('{"message":{"text":"Hi"}}', NOT_A_FRAME),
    "message an array": ('{"message":["Hi"]}', NOT_A_FRAME),
    "message wrong beside a payload": ('{"message":0,"payload":{}}', NOT_A_FRAME),
    "no keys": ("{}", EMPTY),
    "unknown keys only": ('{"text":"Hi","Message":"Hi","PAYLOAD":1}', EMPTY),
    "payload nested deeply": ('{"payload":' + "[" * 100_000 + "]" * 100_000 + "}", TOO_DEEP),
    "unknown key nested deeply": ('{"x":' + "[" * 100_000 + "]" * 100_000 + "}", TOO_DEEP),
    "objects nested deeply": ('{"payload":' + '{"":' * 100_000, TOO_DEEP),
}


@pytest.mark.parametrize(
    ("text", "detail"), [pytest.param(*row, id=name) for name, row in BAD_FRAMES.items()]
)
def test_what_is_not_a_message_is_refused_with_the_reason(text: str, detail: str) -> None:
    with pytest.raises(BadFrame) as refused:
        frames.parse(text)

    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"message":"Hi é🐶"}', "Hi é🐶"),
        (r'{"message":"\ud83d\udc36\u0000\/"}', "🐶\0/"),
        ('{"message":""}', ""),
        ('{"message":null}', None),
        (' \r\n\t{ "message" : "Hi" } ', "Hi"),
        (r'{"m\u0065ssage":"Hi"}', "Hi"),
        ('{"message":"Hi","from":"me","x":{"y":[1e999]}}', "Hi"),
        ('{"message":"first","message":"last"}', "last"),
        ('{"message":"\u2028\x7f"}', "\u2028\x7f"),
    ],
    ids=[
        "text",
        "escapes",
        "empty",
        "null",
        "white space",
        "escaped key",
        "unknown keys",
        "repeated key",
        "odd characters",
    ],
)
def test_a_message_is_read(text: str, message: str | None) -> None:
    frame = frames.parse(text)

    assert frame.message == message
    assert frame.payload is msgspec.UNSET


@pytest.mark.parametrize(
    "payload",
    [
        "null",
        "false",
        '""',
        "[]",
        "{}",
        "123456789012345678901234567890",
        "-0.10E+400",
        '{"z":1, "a" : [ 1.0,\n2 ],"z":2}',
        r'"\u0048\/\ud83d\udc36"',
        '{"type":"rollback","rollback_count":1}',
        "[" * 200 + "]" * 200,
    ],
    ids=[
        "null",
        "false",
        "empty string",
        "empty array",
        "empty object",
        "big integer",
        "odd number",
        "order, white space, repeated key",
        "escapes",
        "rollback",
        "nested",
    ],
)
def test_a_payload_is_kept_byte_for_byte(payload: str) -> None:
    frame = frames.parse(f'{{"payload": {payload} , "x":1}}')

    assert isinstance(frame.payload, msgspec.Raw)
    assert bytes(frame.payload).decode() == payload
    assert frame.message is msgspec.UNSET


def test_message_and_payload_come_together() -> None:
    frame = frames.parse('{"payload":{"a":1},"message":"Hi"}')

    assert (frame.message, frame.payload) == ("Hi", msgspec.Raw(b'{"a":1}'))


@given(st.text(st.characters()))
def test_no_text_raises_anything_but_bad_frame(text: str) -> None:
    with pytest.raises(BadFrame) as refused:
        frames.parse(text)

    assert refused.value.detail in {NOT_JSON, NOT_A_FRAME, EMPTY}


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_json, st.none() | st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_whatever_json_another_encoder_writes_is_read(
    payload: Any, message: str | None, ascii_only: bool
) -> None:
    written = json.dumps(payload, ensure_ascii=ascii_only)

    frame = frames.parse(
        f'{{"message":{json.dumps(message, ensure_ascii=ascii_only)},"payload":{written}}}'
    )

    assert isinstance(frame.payload, msgspec.Raw)
    assert (frame.message, bytes(frame.payload).decode()) == (message, written)


def test_the_answer_to_a_bad_frame_has_the_shape_of_an_event_with_a_body() -> None:
    answer = frames.bad_frame("the frame is not JSON")

    assert json.loads(answer) == {
        "type": "error",
        "code": "bad_frame",
        "body": "Sorry, that message could not be understood.",
        "detail": "the frame is not JSON",
    }
