"""
Our ordinary server, which counts and times nothing: what do its metrics cost?

The command line and all that it starts are the product's own. What the product measures with is
replaced here by what does nothing, before it starts, so that the product needs no switch for it.
"""

import sys
from typing import Any, Self

from switchboard_operator import __main__ as command_line
from switchboard_operator import app, turns


class Nothing:
    """Stands for any metric, with labels or without, and for any of its methods."""

    def __getattr__(self, _name: str) -> Self:
        return self

    def __call__(self, *_arguments: object) -> Self:
        """Do nothing."""
        return self


class Metrics(Nothing):
    """Has every metric there is."""

    def __getattr__(self, _name: str) -> Any:
        return NOTHING

    def __init__(self, _version: str) -> None:
        """Count nothing."""

    def exposition(self) -> bytes:
        """Return no metrics."""
        return b""


class DeliverySample:
    """Follows no postback."""

    session = ""

    def __init__(self, *_parts: object) -> None:
        """Measure nothing."""

    def accepted(self, _postback: object) -> None:
        """Do not follow it."""


class LoopLag:
    """Looks at nothing."""

    worst = None

    def __init__(self, *_times: object) -> None:
        """Set no timer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass


class Turns(turns.Turns):
    """Waits for no answer."""

    def begin(self, session: str) -> None:
        """Forget it at once."""

    def withdraw(self, session: str) -> None:
        """Know of nothing to withdraw."""

    def answered(self, session: str) -> None:
        """Know of nobody who waited for it."""


NOTHING = Nothing()

if __name__ == "__main__":
    for quiet in (Metrics, DeliverySample, LoopLag, Turns):
        getattr(app, quiet.__name__)  # or it would stand for nothing
        setattr(app, quiet.__name__, quiet)
    sys.exit(command_line.main())
