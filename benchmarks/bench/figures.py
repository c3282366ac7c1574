"""What is made of a run's events: what became of the messages, latencies, ratios."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Self


@dataclass(frozen=True)
class Tally:
    """How many messages went wrong, and how."""

    lost: int = 0
    doubled: int = 0
    misrouted: int = 0  # came to somebody else
    reordered: int = 0  # came after a later one of the same user

    @classmethod
    def of(cls, sent: Iterable[tuple[int, int]], came: Iterable[tuple[int, int]]) -> Self:
        """Count, of the (message, user) that were *sent*, what is wrong with those that *came*."""
        owners = dict(sent)
        seen: set[int] = set()
        latest: dict[int, int] = {}
        doubled = misrouted = reordered = 0
        for message, user in came:
            if owners.get(message) != user:
                misrouted += 1
            elif message in seen:
                doubled += 1
            else:
                seen.add(message)
                reordered += message < latest.get(user, -1)
                latest[user] = max(message, latest.get(user, -1))
        return cls(len(owners) - len(seen), doubled, misrouted, reordered)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.misrouted + other.misrouted,
            self.reordered + other.reordered,
        )

    def good(self) -> bool:
        """Tell whether nothing went wrong."""
        return not (self.lost or self.doubled or self.misrouted or self.reordered)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least of *values* that *share* of them do not exceed; NaN if there are none."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def median_of_ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios of *ours* to *theirs*; NaN if there is none."""
    ratios = _ratios(ours, theirs)
    return median(ratios) if ratios else float("nan")


def share_of_ratios(ours: Sequence[float], theirs: Sequence[float], share: float) -> float:
    """Return the ratio of *ours* to *theirs* that *share* of the rounds do not exceed, or NaN."""
    return percentile(_ratios(ours, theirs), share)


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True) if other]
