"""The two things that are carried: user messages to the Concierge, postbacks to users."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from switchboard_operator import sessions
from switchboard_operator.errors import PostbackRefused
from switchboard_operator.marks import Mark

_T = TypeVar("_T")

_ARRAY_START: Final = b"["
_WHITE_SPACE: Final = b" \t\n\r"

# The tag is read at the head of the bytes, never from parsed JSON, in which a later key wins.
_TAG: Final = re.compile(
    rb'([ \t\n\r]*\{)"switchboard":"(?:([0-9a-z]{1,16}):([1-9][0-9]{0,14}))?",'
)
_LIKE_A_TAG: Final = re.compile(rb'[ \t\n\r]*\{"switchboard":"')
_NO_TAG: Final = b'"switchboard":"",'


@dataclass(frozen=True, slots=True)
class UserMessage:
    """
    What a user said, on its way to the Concierge.

    `body` is the JSON that the Concierge gets; `key` is the same on every attempt to deliver it:
    the client's `cid`, or one of ours, which nobody else knows (`keyed_here`). `arrived` is the
    event loop's time in seconds, `connection` the `id()` of that on which it came, for log lines.
    """

    session: str
    key: str
    body: bytes
    arrived: float
    keyed_here: bool = True
    connection: int = 0


class Postback(msgspec.Struct, frozen=True, gc=False):  # cheaper to make than a dataclass
    """
    A reply of the Concierge, on its way to a user.

    `body` is the Concierge's JSON object byte for byte, which is what the user gets; what has the
    same `key` is the same reply once more.
    """

    session: str
    body: bytes
    key: str


class Delivery(msgspec.Struct, frozen=True, gc=False):  # likewise
    """A postback that was published; `mark` is its id, None if it has none."""

    session: str
    body: bytes
    mark: Mark | None


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


def parse_postbacks(body: bytes, key: str, *, max_bytes: int, max_items: int) -> list[Postback]:
    """
    Read a request's body: one postback, or an array of 1 to *max_items*, all valid or none.

    *key* is the request's, *max_bytes* bounds each postback.

    Raises:
        PostbackRefused: not JSON, not an object, no usable `to` (400), or too long (413).
    """
    if not is_array(body):
        return [Postback(_session_of(body, max_bytes), body, f"{key}.0")]
    items = _decoded(_array, body)
    if not 1 <= len(items) <= max_items:
        raise _bad(f"an array holds 1 to {max_items} postbacks")
    return [
        Postback(_session_of(bytes(item), max_bytes), bytes(item), f"{key}.{place}")
        for place, item in enumerate(items)
    ]


def is_array(body: bytes) -> bool:
    """Tell whether *body* is meant as an array."""
    return body.lstrip(_WHITE_SPACE)[:1] == _ARRAY_START


def parse_broadcast(
    data: bytes, *, max_bytes: int, wanted: Callable[[str], bool]
) -> Delivery | None:
    """
    Read what somebody published for all instances: a postback, byte for byte, perhaps tagged.

    *max_bytes* bounds it without its tag; what is longer comes from no instance. None: it is one,
    but its session is not *wanted*, as most are not where there are many instances.

    Raises:
        PostbackRefused: it isn't one.
    """
    if len(data) > max_bytes:
        _check_size(_cut(data)[0], max_bytes)
    # With its tag, since that makes no object of what is none, nor the other way round.
    session = _address(data)
    if not wanted(session):
        return None
    body, mark = _cut(data)
    return Delivery(session, body, mark)


def _cut(data: bytes) -> tuple[bytes, Mark | None]:
    """Return what was tagged, and the mark in its tag."""
    match = _TAG.match(data)
    if match is None:
        return data, None
    head, epoch, number = match.groups()
    mark = Mark(epoch.decode(), int(number)) if epoch else None
    return head + data[match.end() :], mark


def untagged(body: bytes) -> bytes:
    """Return *body* as it is published without an id: nothing in it must pass for our tag."""
    if _LIKE_A_TAG.match(body) is None:
        return body
    cut = tag_place(body)
    return body[:cut] + _NO_TAG + body[cut:]


def tag_place(body: bytes) -> int:
    """Return where in *body*, an object, its tag is put: right after the brace that opens it."""
    return body.index(b"{") + 1


def _session_of(body: bytes, max_bytes: int) -> str:
    _check_size(body, max_bytes)
    return _address(body)


def _check_size(body: bytes, max_bytes: int) -> None:
    if len(body) > max_bytes:
        raise PostbackRefused("too_large", f"a postback is at most {max_bytes} bytes", status=413)


def _address(body: bytes) -> str:
    session = _decoded(_addressed, body).to
    if not sessions.is_valid(session):
        raise _bad("to is not a session id")
    return session


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
