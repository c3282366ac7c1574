"""Measure how long postbacks take from the Concierge's door to a user's line: one at a time."""

from collections.abc import Callable
from time import monotonic

from switchboard_operator.messages import Delivery, Postback
from switchboard_operator.metrics import Metrics


class DeliverySample:
    """
    Follows one postback from where it is accepted to where it is put on its user's line.

    Only where both happen in this process. To follow each would take a look-up for each, and
    memory for those that go elsewhere; the next one to be followed is the first to be accepted
    once the last was delivered, or is given up after *longest* seconds.
    """

    def __init__(self, metrics: Metrics, longest: float) -> None:
        """Show in *metrics* how long it took."""
        self.is_here: Callable[[str], bool] = _nobody  # tells whether a session has a socket
        self._seconds = metrics.delivery_seconds
        self._longest = longest
        self._followed: Postback | None = None
        # Not the loop's time: uvloop reads its clock once a turn, and many take less.
        self._since = 0.0
        self.session = ""  # of the one that is followed: so that others cost one comparison

    def accepted(self, postback: Postback) -> None:
        """Follow *postback* if none is followed, and its user is here."""
        if self.session and monotonic() - self._since < self._longest:
            return
        self.session = ""
        if self.is_here(postback.session):
            self._followed, self.session = postback, postback.session
            self._since = monotonic()

    def delivered(self, delivery: Delivery) -> None:
        """Note that *delivery*, to the session of the one that is followed, is on the line."""
        if self._followed is not None and self._followed.body == delivery.body:
            self._seconds.observe(monotonic() - self._since)
            self._followed, self.session = None, ""


def _nobody(_session: str) -> bool:
    return False
