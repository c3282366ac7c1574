"""The classic wire: what clients and we say to each other in WebSocket text frames."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from switchboard_operator.errors import BadFrame
from switchboard_operator.marks import Mark

NORMAL = 1000
PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003  # a binary frame
INVALID_TEXT = 1007
TOO_BIG = 1009
RESTART = 1012
ABNORMAL = 1006  # never on the wire: the connection ended without a Close frame
BAD_TOKEN = 4001  # made up, or too old
PROTOCOL_BROKEN = 4002
REPLACED = 4003  # by a newer socket of the same session
TOO_SLOW = 4101
NO_OPEN = 4102  # in time

_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})  # RFC 6455, 7.4, and IANA's list
_FREE_CODES = range(3000, 5000)  # for libraries and applications
_APOLOGY = "Sorry, that message could not be understood."


@dataclass(frozen=True, slots=True)
class Wire:
    """
    How we say things in one wire format.

    `message` makes a frame of a postback and its id; `typing` and `heartbeat` are whole frames,
    None where clients know no such thing.
    """

    name: str
    message: Callable[[bytes, Mark | None], bytes]
    typing: bytes | None = None
    heartbeat: bytes | None = None


CLASSIC = Wire("classic", message=lambda body, _: body)


class UserFrame(msgspec.Struct, frozen=True):
    """What a user's frame holds; an absent key is UNSET, the payload is its bytes."""

    message: str | msgspec.UnsetType | None = msgspec.UNSET
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(UserFrame)


def echo(code: int) -> int:
    """Return the code that answers a client's Close frame: its own, if it may be on the wire."""
    if code == 0:  # it gave none
        return NORMAL
    return code if code in _CODES or code in _FREE_CODES else PROTOCOL_ERROR


def parse(text: str) -> UserFrame:
    """
    Read a user's frame: a JSON object (RFC 8259) with a message, a payload or both.

    Raises:
        BadFrame: what it lacks, in words that may be shown to the user.
    """
    try:
        frame = _decoder.decode(text)
    except msgspec.ValidationError as exc:
        raise BadFrame("a frame is a JSON object whose message is a string or null") from exc
    except (msgspec.DecodeError, UnicodeEncodeError) as exc:
        raise BadFrame("the frame is not JSON") from exc
    except RecursionError as exc:
        raise BadFrame("the frame is nested too deeply") from exc
    if frame.message is msgspec.UNSET and frame.payload is msgspec.UNSET:
        raise BadFrame("a frame has a message or a payload")
    return frame


def bad_frame(detail: str) -> bytes:
    """Return the frame that answers one we could not use; the socket lives on."""
    return msgspec.json.encode(
        {"type": "error", "code": "bad_frame", "body": _APOLOGY, "detail": detail}
    )
