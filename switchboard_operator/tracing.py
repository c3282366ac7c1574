"""
A span for each message: a user's on its way to the Concierge, a postback's on its way to a user.

All of this stands around what it looks at, and only if somebody wants spans: else nothing of it is
there, and it costs nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import time_ns
from typing import Self

from switchboard_operator.aliases import Aliases
from switchboard_operator.broker.base import Broker, Health, Leases, Mailbox, Receipt, Subscriber
from switchboard_operator.broker.publication import future_of
from switchboard_operator.concierge import Concierge
from switchboard_operator.errors import ConciergeError
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Postback, UserMessage
from switchboard_operator.spans import TracedSubscriber, Tracer


class TracedConcierge(Concierge):
    """A Concierge to which each POST is a span."""

    _tracer: Tracer
    _aliases: Aliases

    def told_to(self, tracer: Tracer, aliases: Aliases) -> Self:
        """Return itself, which records its POSTs by *tracer*."""
        self._tracer, self._aliases = tracer, aliases
        return self

    async def post(self, message: UserMessage) -> None:
        """Post *message*, and record how that went."""
        start, outcome = time_ns(), "given up"
        try:
            await super().post(message)
            outcome = "accepted"
        except ConciergeError as exc:
            outcome = exc.kind
            raise
        finally:
            self._tracer.span("user message", start, time_ns(), {
                "session": self._aliases.of_session(message.session),
                "request_id": message.key,
                "outcome": outcome,
            })  # fmt: skip


class TracedBroker:
    """
    A broker to which each postback is a span, from being put to being published.

    Its deliveries are spans within that one, wherever and whenever they happen: the identity of a
    postback's span is made from its id, which all who deliver it know.
    """

    def __init__(self, broker: Broker, tracer: Tracer, aliases: Aliases, *, confirm: float) -> None:
        """Do what *broker* does and record it; what takes more than *confirm* seconds was held."""
        self._broker = broker
        self._tracer = tracer
        self._aliases = aliases
        self._confirm = confirm
        self._awaited: set[asyncio.Future[Receipt]] = set()

    @property
    def mailbox(self) -> Mailbox:
        """Return the mailbox that is joined to it."""
        return self._broker.mailbox

    @property
    def leases(self) -> Leases:
        """Return the leases that instances joined by it agree on."""
        return self._broker.leases

    @asynccontextmanager
    async def listen(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """Tell *subscriber* of each postback, and record when."""
        try:
            async with self._broker.listen(
                TracedSubscriber(subscriber, self._tracer, self._aliases)
            ):
                yield
        finally:
            for published in self._awaited:
                published.cancel()  # nobody publishes it any more
            await asyncio.sleep(0)  # which is noted

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        """Queue *postbacks*; the future is done when all are confirmed."""
        start = time_ns()
        published = future_of(self._broker.put(postbacks))
        self._awaited.add(published)
        published.add_done_callback(partial(self._note, postbacks, start))
        return published

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Put *postbacks*, and wait a while until they are confirmed."""
        published = self.put(postbacks)
        # Not the broker's own: who asks that learns nothing of what is published later.
        done, _ = await asyncio.wait([published], timeout=self._confirm)
        return published.result() if done else Receipt(confirmed=False)

    async def sockets(self, session: str) -> int:
        """Return how many sockets of *session* there are on all instances."""
        return await self._broker.sockets(session)

    async def flush(self) -> None:
        """Wait until nothing is held."""
        await self._broker.flush()

    def health(self) -> Health:
        """Tell how the broker is doing."""
        return self._broker.health()

    def _note(
        self, postbacks: Sequence[Postback], start: int, published: asyncio.Future[Receipt]
    ) -> None:
        """Record what became of *postbacks*."""
        self._awaited.discard(published)
        end = time_ns()
        if published.cancelled() or published.exception():
            receipt, outcome = Receipt(confirmed=False, ids=("",) * len(postbacks)), "lost"
        else:
            receipt, late = published.result(), end - start > 1e9 * self._confirm
            outcome = "repeated" if receipt.repeated else "held" if late else "confirmed"
        for postback, mark in zip(postbacks, receipt.marks, strict=True):
            self._span(postback.session, mark, outcome, (start, end))

    def _span(self, session: str, mark: Mark | None, outcome: str, times: tuple[int, int]) -> None:
        told = {
            "session": self._aliases.of_session(session),
            "id": str(mark or ""),
            "outcome": outcome,
        }
        identity = None if mark is None else self._aliases.of_postback(session, mark)
        if outcome == "repeated":  # within the span of the first one
            self._tracer.span("postback", *times, told, within=identity)
        else:
            self._tracer.span("postback", *times, told, itself=identity)
