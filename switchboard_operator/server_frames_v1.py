"""The wire `switchboard.v1`: what we say, and whether a client resumes its session."""

from dataclasses import dataclass
from typing import Any

import msgspec

from switchboard_operator.client_frames_v1 import Open
from switchboard_operator.frames import Wire
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import Mark

SUBPROTOCOL = "switchboard.v1"
TYPING = 10_000  # milliseconds


@dataclass(frozen=True, slots=True)
class Resumption:
    """
    What becomes of a client's place in its session.

    `why` it could not be resumed, "" if it could. `missed` postbacks follow; `last` is the latest.
    """

    why: str
    missed: int
    last: str


class _Ack(msgspec.Struct, omit_defaults=True):
    type: str
    cid: str
    ok: bool
    code: str | None = None
    retry: bool | None = None


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
