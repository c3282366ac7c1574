"""Postbacks that were published together: what publish.lua sends to instances in one message."""

from collections.abc import Iterable
from typing import Protocol

from switchboard_operator import marks
from switchboard_operator.messages import Delivery

_END = b"\n"  # of what comes before the bodies
EMPTY = _END  # a bundle of none
_EACH = 3  # fields of a postback: its id, its session and its size


class BadBundle(ValueError):
    """This is none: it comes from no instance."""


class Wanted(Protocol):
    """Tells of which sessions postbacks are wanted."""

    def has(self, session: str) -> bool:
        """Tell whether those of *session* are."""

    def has_any(self, sessions: Iterable[str]) -> bool:
        """Tell whether those of any of *sessions* are."""


def read(data: bytes, wanted: Wanted) -> list[Delivery]:
    """
    Return the postbacks in a bundle whose session is *wanted*; most are others' in a large fleet.

    Raises BadBundle, for whose bodies it need not be a whole one. Instances are believed the rest.
    """
    try:
        end = data.index(_END)
        fields = data[:end].decode("ascii").split(" ")
        sessions = fields[1::_EACH]
        if not wanted.has_any(sessions):
            return []
        found = []
        start = end + 1
        for mark, session, size in zip(fields[::_EACH], sessions, fields[2::_EACH], strict=True):
            end = start + int(size)
            if wanted.has(session):
                found.append(Delivery(session, data[start:end], marks.ours(mark)))
            start = end
    except ValueError as exc:
        raise BadBundle from exc
    if end != len(data):
        raise BadBundle
    return found


def has(data: bytes, session: str) -> bool:
    """Tell whether a postback to *session* is in a bundle."""
    return f" {session} ".encode() in data[: data.find(_END)]
