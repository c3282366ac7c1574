"""A place in a session's postbacks: the epoch they are counted in, and a number."""

import random
import re
from typing import NamedTuple

_MARK = re.compile(r"([0-9a-z]{1,16}):([0-9]{1,15})")


class Mark(NamedTuple):
    """
    The id of a postback, or the place right after it.

    Numbers count 1, 2, 3… within an epoch; another epoch means that the count began anew.
    """

    epoch: str
    number: int

    def __str__(self) -> str:
        """Return `<epoch>:<number>`, as it stands on the wire; "" before the first postback."""
        return f"{self.epoch}:{self.number}" if self.number else ""

    def precedes(self, other: "Mark") -> bool:
        """Tell whether *other* is the postback right after this place."""
        return other.number == self.number + 1 and self.epoch in {other.epoch, ""}


LAST = 10**15 - 1  # the highest number that can be written
NOWHERE = Mark("", 0)  # before the first postback of any epoch
ELSEWHERE = Mark("?", 0)  # in an epoch that no session has


def parse(text: str) -> Mark | None:
    """Read a mark as it stands on the wire; None if *text* is none."""
    match = _MARK.fullmatch(text)
    return Mark(match[1], int(match[2])) if match else None


def ours(text: str) -> Mark | None:
    """Read a mark that Redis has from us, as `parse` does but in a third of the time."""
    epoch, _, number = text.partition(":")
    try:
        return Mark(epoch, int(number)) if epoch else None
    except ValueError:  # somebody has been at our keys
        return None


def new_epoch() -> str:
    """Return a tag that no other epoch of a session has."""
    return f"{random.getrandbits(32):08x}"
