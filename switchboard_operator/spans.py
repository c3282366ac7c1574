"""A span for each delivery, whether it comes from the channel or is read from a mailbox."""

import asyncio
from collections.abc import Mapping
from functools import partial
from time import time_ns
from typing import Protocol

from switchboard_operator import replay
from switchboard_operator.aliases import Aliases
from switchboard_operator.broker.base import Subscriber
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery


class Tracer(Protocol):
    """Records what is over."""

    def span(
        self,
        name: str,
        start: int,
        end: int,
        attributes: Mapping[str, str],
        *,
        itself: bytes | None = None,
        within: bytes | None = None,
    ) -> None:
        """
        Record a span, its times in nanoseconds of the epoch.

        `itself` is its identity, a new one if None; `within` that of the span around it, which may
        be another process's. Either is of 24 bytes: 16 for the trace and 8 for the span.
        """


class TracedSubscriber:
    """A subscriber of whose deliveries each is a span, if there is anybody to get it."""

    def __init__(self, subscriber: Subscriber, tracer: Tracer, aliases: Aliases) -> None:
        """Tell *subscriber* of each, and record it."""
        self._subscriber = subscriber
        self._tracer = tracer
        self._aliases = aliases
        self.write = subscriber.write
        self.resync = subscriber.resync
        self.has = subscriber.has
        self.has_any = subscriber.has_any
        self.sockets_of = subscriber.sockets_of

    def deliver(self, delivery: Delivery) -> None:
        """Take a postback that was published, and record it."""
        start = time_ns()
        self._subscriber.deliver(delivery)
        session, mark = delivery.session, delivery.mark
        if mark is not None and self.sockets_of(session):
            told = {"id": str(mark), "how": "live"}
            within = self._aliases.of_postback(session, mark)
            self._tracer.span("delivery", start, time_ns(), told, within=within)


class TracedMailbox:
    """A mailbox of which each postback that a connection reads is a span, its delivery."""

    def __init__(self, mailbox: replay.Mailbox, tracer: Tracer, aliases: Aliases) -> None:
        """Do what *mailbox* does, and record it."""
        self._mailbox = mailbox
        self._tracer = tracer
        self._aliases = aliases
        self.prove = mailbox.prove

    def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
        """Return the postbacks after a mark, or after the cursor, and record their delivery."""
        reading = self._mailbox.read(session, after)
        reading.add_done_callback(partial(self._note, session, time_ns()))
        return reading

    def _note(self, session: str, start: int, reading: asyncio.Future[Page | None]) -> None:
        page = None if reading.cancelled() or reading.exception() else reading.result()
        if page is None:
            return
        for number in range(page.first, page.first + len(page.bodies)):
            told = {"id": str(page.at(number)), "how": "replayed"}
            within = self._aliases.of_postback(session, page.at(number))
            self._tracer.span("delivery", start, time_ns(), told, within=within)
