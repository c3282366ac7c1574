"""Notice whether users get answers, and how soon: a message is to be followed by a postback."""

import asyncio
from collections.abc import Iterable
from itertools import takewhile
from typing import Self

from switchboard_operator.metrics import Metrics

LOOKS = 30  # in the time that a bot has to answer: so late is noticed at most that it did not


class Turns:
    """
    Measures the time from a user's message to the bot's next postback to them, within the context.

    A session has one turn at most, which its first message opens and any postback ends. One that
    goes on for *patience* seconds is counted as unanswered, and no longer waited for.
    """

    def __init__(self, metrics: Metrics, patience: float) -> None:
        """Show in *metrics* how turns end."""
        self._replies = metrics.first_reply_seconds
        self._unanswered = metrics.unanswered_turns
        self._patience = patience
        self._began: dict[str, float] = {}  # the loop's time, by session; the oldest first
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None  # one for all, while there is any

    def __enter__(self) -> Self:
        """Begin with no turn."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Wait for no answer any more."""
        self.forget()

    def begin(self, session: str) -> None:
        """Note that a message of *session* is on its way to the Concierge."""
        self._began.setdefault(session, self._loop.time())
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._sweep)

    def withdraw(self, session: str) -> None:
        """Note that the Concierge does not have it: nothing is to be expected of the bot."""
        self._began.pop(session, None)

    def answered(self, session: str) -> None:
        """Note a postback to *session*; of most nobody waits for one."""
        began = self._began.pop(session, None)
        if began is not None:
            self._replies.observe(self._loop.time() - began)

    def waits(self, session: str) -> bool:
        """Tell whether *session* waits for an answer, be its user still there or not."""
        return session in self._began

    def waits_for_any(self, sessions: Iterable[str]) -> bool:
        """Tell whether any of *sessions* waits for an answer."""
        return not self._began.keys().isdisjoint(sessions)

    def forget(self) -> None:
        """Note that answers may have gone unheard: what is waited for can't be known."""
        self._began.clear()
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        """Count the turns whose time is up, and look again when the next one's may be."""
        self._stop()
        latest = self._loop.time() - self._patience
        over = list(takewhile(lambda turn: turn[1] <= latest, self._began.items()))
        for session, _ in over:
            del self._began[session]
        self._unanswered.inc(len(over))
        if self._began:
            oldest = next(iter(self._began.values()))
            wait = max(oldest - latest, self._patience / LOOKS)
            self._timer = self._loop.call_later(wait, self._sweep)
