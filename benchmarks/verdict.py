"""What became of messages that were numbered."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self


@dataclass(frozen=True)
class Verdict:
    """What became of messages that were numbered from 0."""

    lost: list[int]
    doubled: list[int]
    reordered: list[int]  # each came after a later one
    troubles: list[str]

    @classmethod
    def of(cls, came: Sequence[int], sent: int, troubles: Iterable[str] = ()) -> Self:
        """Judge what *came* of so many that were *sent*."""
        first = list(dict.fromkeys(came))
        return cls(
            sorted(set(range(sent)) - set(came)),
            sorted(number for number, count in Counter(came).items() if count > 1),
            [later for earlier, later in pairwise(first) if later < earlier],
            list(troubles),
        )

    def good(self, *, doubles: bool) -> bool:
        """Tell whether all is well; *doubles* may be."""
        return not (self.lost or self.reordered or self.troubles or (self.doubled and not doubles))
