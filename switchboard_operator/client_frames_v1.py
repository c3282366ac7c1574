"""The wire `switchboard.v1`: what a client may say."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from switchboard_operator import frames, marks
from switchboard_operator.errors import BadFrame, ProtocolBroken
from switchboard_operator.marks import NOWHERE, Mark

LONGEST_CID = 64  # characters

_CID = re.compile(rf"[^\x00-\x1f\x7f]{{1,{LONGEST_CID}}}")  # it goes into a header


@dataclass(frozen=True, slots=True)
class Open:
    """
    A client's first frame.

    `token` is None for a client that has none. `last` is the id it got last, NOWHERE if it got
    none, None if it does not say.
    """

    token: str | None
    last: Mark | None


@dataclass(frozen=True, slots=True)
class Message:
    """What a user said; `cid` is the client's name for it."""

    cid: str
    said: frames.UserFrame


class BadMessage(BadFrame):
    """A user's message can't be used, but it has a `cid` by which to say so."""

    def __init__(self, cid: str, detail: str) -> None:
        """Say in *detail* what it lacks."""
        super().__init__(detail)
        self.cid = cid


class _Head(msgspec.Struct):
    type: str
    token: str | None = None
    last: str | None = None


class _Named(msgspec.Struct):
    cid: str


_head = msgspec.json.Decoder(_Head)
_named = msgspec.json.Decoder(_Named)


def parse_open(text: str) -> Open:
    """
    Read a client's first frame.

    Raises:
        ProtocolBroken: it is another one.
    """
    try:
        head = _head.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as exc:
        raise ProtocolBroken from exc
    if head.type != "open":
        raise ProtocolBroken
    if head.last is None:
        return Open(head.token, None)
    # What is no id of ours is taken for one of an epoch that is gone.
    last = (marks.parse(head.last) or marks.ELSEWHERE) if head.last else NOWHERE
    return Open(head.token, last)


def parse_message(text: str) -> Message:
    """
    Read a frame of a client that has opened.

    Raises:
        BadMessage: a message that can't be used.
        BadFrame: a frame without a usable `cid`.
        ProtocolBroken: a second `open`.
    """
    kind = _decoded(_head, text, "a frame is a JSON object with a type").type
    if kind == "open":
        raise ProtocolBroken
    if kind != "message":
        raise BadFrame("the type is not known")
    cid = parse_cid(text)
    try:
        return Message(cid, frames.parse(text))
    except BadFrame as exc:
        raise BadMessage(cid, exc.detail) from exc


def parse_cid(text: str) -> str:
    """
    Read the `cid` of a frame, whatever else it holds.

    Raises:
        BadFrame: it has none that can be used.
    """
    detail = f"a message has a cid, a string of 1 to {LONGEST_CID} characters, none a control one"
    cid: str = _decoded(_named, text, detail).cid
    if not _CID.fullmatch(cid):
        raise BadFrame(detail)
    return cid


def _decoded(decoder: msgspec.json.Decoder[Any], text: str, detail: str) -> Any:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as exc:
        raise BadFrame(detail) from exc
    except (msgspec.DecodeError, UnicodeEncodeError) as exc:
        raise BadFrame("the frame is not JSON") from exc
    except RecursionError as exc:
        raise BadFrame("the frame is nested too deeply") from exc
