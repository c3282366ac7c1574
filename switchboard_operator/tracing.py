"""
A span for each message: a user's on its way to the Concierge, a postback's on its way to a user.

All of this stands around what it looks at, and only if somebody wants spans: else nothing of it is
there, and it costs nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import time_ns
from typing import Any, Generic, Protocol, Self, TypeVar

from switchboard_operator.aliases import Aliases
from switchboard_operator.broker.base import Broker, Health, Leases, Mailbox, Receipt, Subscriber
from switchboard_operator.concierge import Concierge
from switchboard_operator.errors import ConciergeError
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery, Postback, UserMessage

MOST_WAITING = 1000  # postbacks of which one end is known and the other is not

_Place = tuple[str, Mark]
_T = TypeVar("_T")


class Tracer(Protocol):
    """Records what is over."""

    def span(
        self, name: str, start: int, end: int, attributes: Mapping[str, str], parent: Any = None
    ) -> Any:
        """Record a span, its times in nanoseconds of the epoch; return what is *parent* to one."""


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

    Its delivery is a span within that one, if it happens on this instance and soon: they find each
    other by the postback's id, which the last so many are waited for. One that a client reads from
    its mailbox, or gets from another instance, has no span.
    """

    def __init__(self, broker: Broker, tracer: Tracer, aliases: Aliases) -> None:
        """Do what *broker* does, and record it."""
        self._broker = broker
        self._tracer = tracer
        self._aliases = aliases
        self._published: _Latest[Any] = _Latest()  # contexts
        self._delivered: _Latest[tuple[int, int]] = _Latest()  # times

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
        async with self._broker.listen(_TracedSubscriber(subscriber, self)):
            yield

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        """Queue *postbacks*; the future is done when all are confirmed."""
        start = time_ns()
        published = self._broker.put(postbacks)
        published.add_done_callback(partial(self._note_future, postbacks, start))
        return published

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Put *postbacks*, and wait a while until they are confirmed."""
        start = time_ns()
        receipt = await self._broker.publish(postbacks)
        self._note(postbacks, start, receipt)
        return receipt

    async def sockets(self, session: str) -> int:
        """Return how many sockets of *session* there are on all instances."""
        return await self._broker.sockets(session)

    async def flush(self) -> None:
        """Wait until nothing is held."""
        await self._broker.flush()

    def health(self) -> Health:
        """Tell how the broker is doing."""
        return self._broker.health()

    def note_delivery(self, delivery: Delivery, start: int) -> None:
        """Take note of *delivery*, which began at *start* and is over."""
        if delivery.mark is None:
            return
        place, times = (delivery.session, delivery.mark), (start, time_ns())
        context = self._published.pop(place)
        if context is None:
            self._delivered.put(place, times)
        else:
            self._tracer.span("delivery", *times, {}, context)

    def _note_future(
        self, postbacks: Sequence[Postback], start: int, published: asyncio.Future[Receipt]
    ) -> None:
        if not published.cancelled() and published.exception() is None:
            self._note(postbacks, start, published.result())

    def _note(self, postbacks: Sequence[Postback], start: int, receipt: Receipt) -> None:
        outcome = ("repeated" if receipt.repeated else "confirmed") if receipt.confirmed else "held"
        marks = receipt.marks or (None,) * len(postbacks)
        for postback, mark in zip(postbacks, marks, strict=False):
            session = self._aliases.of_session(postback.session)
            told = {"session": session, "id": str(mark or ""), "outcome": outcome}
            context = self._tracer.span("postback", start, time_ns(), told)
            if mark is not None and not receipt.repeated:
                self._meet((postback.session, mark), context)

    def _meet(self, place: _Place, context: Any) -> None:
        """Record the delivery that came first, or let the one to come find *context*."""
        times = self._delivered.pop(place)
        if times is None:
            self._published.put(place, context)
        else:
            self._tracer.span("delivery", *times, {}, context)


class _TracedSubscriber:
    """A subscriber of whose deliveries a broker takes note."""

    def __init__(self, subscriber: Subscriber, broker: TracedBroker) -> None:
        self._subscriber = subscriber
        self._broker = broker
        self.write = subscriber.write
        self.resync = subscriber.resync
        self.has = subscriber.has
        self.sockets_of = subscriber.sockets_of

    def deliver(self, delivery: Delivery) -> None:
        start = time_ns()
        self._subscriber.deliver(delivery)
        self._broker.note_delivery(delivery, start)


class _Latest(Generic[_T]):
    """What was put last, so much of it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Place, _T] = OrderedDict()

    def put(self, place: _Place, what: _T) -> None:
        self._kept[place] = what
        if len(self._kept) > MOST_WAITING:
            self._kept.popitem(last=False)

    def pop(self, place: _Place) -> _T | None:
        return self._kept.pop(place, None)
