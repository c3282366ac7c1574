"""The two things that are carried: user messages to the Concierge, postbacks to users."""

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from switchboard_operator import sessions
from switchboard_operator.errors import PostbackRefused

_T = TypeVar("_T")

_ARRAY_START: Final = b"["
_WHITE_SPACE: Final = b" \t\n\r"


@dataclass(frozen=True, slots=True)
class UserMessage:
    """
    What a user said, on its way to the Concierge.

    `body` is the JSON that the Concierge gets; `key` is the same on every attempt to deliver it;
    `arrived` is the event loop's time in seconds.
    """

    session: str
    key: str
    body: bytes
    arrived: float


@dataclass(frozen=True, slots=True)
class Postback:
    """
    A reply of the Concierge, on its way to a user.

    `body` is the Concierge's JSON object byte for byte, which is what the user gets.
    """

    session: str
    body: bytes


class _Body(msgspec.Struct):
    Body: str | msgspec.UnsetType | None
    From: str
    Payload: msgspec.Raw | msgspec.UnsetType


def concierge_body(
    session: str, message: str | msgspec.UnsetType | None, payload: msgspec.Raw | msgspec.UnsetType
) -> bytes:
    """Return the JSON for the Concierge: absent keys left out, the payload's bytes untouched."""
    return msgspec.json.encode(_Body(message, session, payload))


class _Addressed(msgspec.Struct):
    to: str


_addressed = msgspec.json.Decoder(_Addressed)
_array = msgspec.json.Decoder(list[msgspec.Raw])


def parse_postbacks(body: bytes, *, max_bytes: int, max_items: int) -> list[Postback]:
    """
    Read a request's body: one postback, or an array of 1 to *max_items*, all valid or none.

    *max_bytes* bounds each postback.

    Raises:
        PostbackRefused: not JSON, not an object, no usable `to` (400), or too long (413).
    """
    if body.lstrip(_WHITE_SPACE)[:1] != _ARRAY_START:
        return [_postback(body, max_bytes)]
    items = _decoded(_array, body)
    if not 1 <= len(items) <= max_items:
        raise _bad(f"an array holds 1 to {max_items} postbacks")
    return [_postback(bytes(item), max_bytes) for item in items]


def parse_broadcast(data: bytes, *, max_bytes: int) -> Postback:
    """
    Read what somebody published for all instances: a postback, byte for byte.

    *max_bytes* bounds it; what is longer comes from no instance.

    Raises:
        PostbackRefused: it isn't one.
    """
    return _postback(data, max_bytes)


def _postback(body: bytes, max_bytes: int) -> Postback:
    if len(body) > max_bytes:
        raise PostbackRefused("too_large", f"a postback is at most {max_bytes} bytes", status=413)
    session = _decoded(_addressed, body).to
    if not sessions.is_valid(session):
        raise _bad("to is not a session id")
    return Postback(session, body)


def _bad(detail: str) -> PostbackRefused:
    return PostbackRefused("bad_postback", detail, status=400)


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        # msgspec does not look at the bytes of what it skips, and a text frame must be UTF-8.
        return decoder.decode(body.decode())
    except msgspec.ValidationError as exc:
        raise _bad("a postback is a JSON object whose to is a string") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _bad("the body is not JSON") from exc
    except RecursionError as exc:
        raise _bad("the body is nested too deeply") from exc
