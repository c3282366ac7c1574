"""The wire `switchboard.v1`: ids, receipts, outcomes, and a session that can be resumed."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from switchboard_operator import frames, marks
from switchboard_operator.errors import BadFrame, ProtocolBroken
from switchboard_operator.frames import Wire
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import NOWHERE, Mark

SUBPROTOCOL = "switchboard.v1"
LONGEST_CID = 64  # characters
TYPING = 10_000  # milliseconds

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


@dataclass(frozen=True, slots=True)
class Resumption:
    """
    What becomes of a client's place in its session.

    `why` it could not be resumed, "" if it could. `missed` postbacks follow; `last` is the latest.
    """

    why: str
    missed: int
    last: str


class _Head(msgspec.Struct):
    type: str
    token: str | None = None
    last: str | None = None


class _Named(msgspec.Struct):
    cid: str


class _Ack(msgspec.Struct, omit_defaults=True):
    type: str
    cid: str
    ok: bool
    code: str | None = None
    retry: bool | None = None


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


def resumption(opened: Open, page: Page | None, lost: int) -> Resumption:
    """
    Tell what becomes of a client that has *opened*, given the *page* after its place.

    *lost* of the postbacks after its place are neither kept nor at hand.

    None for the page means that the mailbox does not answer: what was missed follows when it does.
    """
    why = "" if opened.token is not None else "new"
    if page is None:
        return Resumption(why, 0, str(opened.last or ""))
    if not why:
        why = _loss(opened.last, page, lost)
    return Resumption(why, page.last - page.start - lost, str(page.at(page.last)))


def _loss(last: Mark | None, page: Page, lost: int) -> str:
    """Return why *page* does not follow on *last*, "" if it does."""
    if last is not None and last.epoch not in {page.epoch, ""}:
        return "epoch"
    if not lost:
        return ""
    return "trimmed" if page.missed else "expired"


def hello(session: str, token: str, resumed: Resumption, *, heartbeat: float, retry: int) -> bytes:
    """Return the answer to a client's `open`; *heartbeat* in seconds, *retry* in milliseconds."""
    content: dict[str, Any] = {
        "type": "hello",
        "session": session,
        "token": token,
        "last": resumed.last,
        "resumed": not resumed.why,
        "missed": resumed.missed,
        "heartbeat": int(heartbeat) if heartbeat == int(heartbeat) else heartbeat,
        "retry": [0, retry],
    }
    if resumed.why:
        content["why"] = resumed.why
    return msgspec.json.encode(content)


def accepted(cid: str) -> bytes:
    """Return the frame that says that the Concierge has a message."""
    return msgspec.json.encode(_Ack("ack", cid, ok=True))


def refused(cid: str, code: str, *, retry: bool) -> bytes:
    """Return the frame that says that a message was not delivered, and whether to send it again."""
    return msgspec.json.encode(_Ack("ack", cid, ok=False, code=code, retry=retry))


def bad_frame(detail: str) -> bytes:
    """Return the frame that answers one we could not use; the socket lives on."""
    return msgspec.json.encode({"type": "error", "code": "bad_frame", "detail": detail})


def _message(body: bytes, mark: Mark | None) -> bytes:
    named = b"" if mark is None else b'"id":"%s",' % str(mark).encode()
    return b'{"type":"message",%s"data":%s}' % (named, body)


V1 = Wire(
    "v1",
    message=_message,
    typing=msgspec.json.encode({"type": "typing", "ms": TYPING}),
    heartbeat=b'{"type":"heartbeat"}',
)
