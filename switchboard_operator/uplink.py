"""The line from users to the Concierge: an ordered queue per session, one POST at a time."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from typing import Self

import structlog

from switchboard_operator.aliases import Aliases
from switchboard_operator.broker.base import Leases
from switchboard_operator.concierge import Concierge
from switchboard_operator.errors import ConciergeRejected, ConciergeTimeout, ConciergeUnavailable
from switchboard_operator.feedback import Feedback
from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.metrics import Metrics
from switchboard_operator.rate_limiter import RateLimiter
from switchboard_operator.session_queue import Item, Sender, SessionQueue
from switchboard_operator.settings import Settings

log = structlog.get_logger()


class Outcome(Enum):
    """What became of a user message."""

    ACCEPTED = "accepted"
    UNAVAILABLE = "concierge_unavailable"  # it can't have been processed
    TIMEOUT = "concierge_timeout"  # it may have been processed
    REJECTED = "concierge_rejected"
    IN_PROGRESS = "in_progress"  # another instance is posting the session's messages


class Uplink:
    """
    Delivers the messages of each session in their order, sessions side by side.

    Everything is bounded: a session's queue, the POSTs under way, the time spent on one message. A
    queue that is full still takes what was read already; whoever reads waits for room.
    """

    def __init__(
        self,
        concierge: Concierge,
        leases: Leases,
        feedback: Feedback,
        settings: Settings,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """Post to *concierge* what *leases* allow, and let users see it by *feedback*."""
        self._concierge = concierge
        self._leases = leases
        self._feedback = feedback
        self._rate = RateLimiter(settings.rate_limit, limits.rate_burst)
        self._turns = asyncio.Semaphore(settings.concierge_concurrency)  # first come, first served
        self._repeatable = {Outcome.UNAVAILABLE, Outcome.IN_PROGRESS}
        if settings.concierge_idempotent:
            self._repeatable.add(Outcome.TIMEOUT)
        self._aliases = Aliases(settings.switchboard_secret_key)
        self._limits = limits
        self._metrics = metrics
        self._closed = False
        self._queues: dict[str, SessionQueue] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def queued(self) -> int:
        """Return the number of messages waiting or under way."""
        return sum(map(len, self._queues.values()))

    async def __aenter__(self) -> Self:
        """Take messages from now on."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop at once, and say how many messages are left: nobody else will deliver them."""
        self._closed = True
        left = self.queued
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if left:
            self._metrics.user_messages.labels(Outcome.UNAVAILABLE.value).inc(left)
            log.error("user messages not delivered before the end", messages=left)

    def put(self, message: UserMessage, sender: Sender | None = None) -> None:
        """Take *message* behind all its session has said; *sender* hears what becomes of it."""
        queue = self._queues.get(message.session)
        if queue is None:
            queue = self._queues[message.session] = SessionQueue(self._limits)
            self._start(message.session, queue)
        queue.put(message, sender)

    def is_full(self, session: str) -> bool:
        """Tell whether *session* has said as much as may wait."""
        queue = self._queues.get(session)
        return queue is not None and queue.full

    def when_room(self, session: str, since: float, go_on: Callable[[], None]) -> None:
        """
        Call *go_on* once *session*, which is full, may say more, which it may not for long.

        Of several that wait, the least *since* goes on first.
        """
        self._queues[session].when_room(since, go_on)

    def stop_retrying(self) -> None:
        """Try nothing again from now on, and keep nobody to a rate: the end is near."""
        self._stopping.set()

    async def emptied(self) -> None:
        """Wait until every message that was said is settled."""
        while self._workers:
            await asyncio.wait(self._workers)

    def _start(self, session: str, queue: SessionQueue) -> None:
        worker = asyncio.create_task(self._work(session, queue))
        self._workers.add(worker)
        worker.add_done_callback(lambda done: self._ended(session, queue, done))

    def _ended(self, session: str, queue: SessionQueue, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if self._closed:
            return
        if bug := worker.exception():
            self._note_bug(queue.head.message, bug)
            self._metrics.user_messages.labels("failed").inc()
            self._settled(queue, queue.head, Outcome.TIMEOUT)
        if queue:  # one more may have come since the worker saw none
            self._start(session, queue)
        else:
            del self._queues[session]
            self._leases.release(session)

    def _note_bug(self, message: UserMessage, bug: BaseException) -> None:
        self._metrics.task_failures.inc()
        log.error(
            "uplink worker failed",
            **self._names(message),
            exc_info=bug,
        )

    def _names(self, message: UserMessage) -> dict[str, str]:
        """Return what log lines call *message*, who said it, and the socket it came on."""
        return {
            "request_id": message.key,
            "connection": self._aliases.of_connection(message.connection),
            "session": self._aliases.of_session(message.session),
        }

    async def _work(self, session: str, queue: SessionQueue) -> None:
        """Deliver the messages of one session, one after the other, until none is left."""
        while queue:
            item = queue.head
            known = await self._known(session, item.message)
            outcome = known or await self._deliver(session, item.message, queue)
            self._settled(queue, item, outcome)
            if known is None:
                await self._show(session, outcome)

    async def _known(self, session: str, message: UserMessage) -> Outcome | None:
        """Return what became of *message* elsewhere or before; None if it is to be posted."""
        if message.keyed_here:
            self._leases.hold(session)
            return None
        claim = await self._leases.claim(session, message.key)
        if not claim.granted:
            return Outcome.IN_PROGRESS
        return Outcome(claim.outcome) if claim.outcome is not None else None

    async def _deliver(self, session: str, message: UserMessage, queue: SessionQueue) -> Outcome:
        await self._keep_rate(session)
        self._feedback.posting(session)
        outcome = await self._settle(message, queue)
        self._count(outcome)
        if not message.keyed_here and outcome not in self._repeatable:
            self._leases.settle(session, message.key, outcome.value)
        if outcome is not Outcome.ACCEPTED:
            log.warning("user message not delivered", **self._names(message), outcome=outcome.value)
        return outcome

    async def _show(self, session: str, outcome: Outcome) -> None:
        """Let the user see what became of a message."""
        if outcome is Outcome.ACCEPTED:
            self._feedback.accepted(session)
        else:
            await self._feedback.not_delivered(session)

    def _settled(self, queue: SessionQueue, item: Item, outcome: Outcome) -> None:
        """Tell who sent *item*; if it has to come again, so does all that came after it."""
        retry = outcome in self._repeatable
        code = None if outcome is Outcome.ACCEPTED else outcome.value
        for settled in [item, *(queue.followers(item) if retry else [])]:
            queue.remove(settled)
            for sender in settled.senders:
                sender.settled(settled.message.key, code, retry=retry)

    async def _keep_rate(self, session: str) -> None:
        while delay := self._rate.delay(session, self._loop.time()):
            if self._stopping.is_set():
                return
            await self._pause(delay)
        self._rate.spend(session, self._loop.time())

    def _count(self, outcome: Outcome) -> None:
        if outcome is Outcome.ACCEPTED:  # nearly all, which is why it has to be quick
            self._metrics.messages_accepted.add()
        else:
            self._metrics.user_messages.labels(outcome.value).inc()

    async def _settle(self, message: UserMessage, queue: SessionQueue) -> Outcome:
        """Post *message* until its outcome is known or its time is up."""
        for longest in self._backoff():
            outcome = await self._attempt(message)
            if outcome is Outcome.ACCEPTED:
                queue.progress = self._loop.time()
            if outcome is not Outcome.UNAVAILABLE:
                return outcome
            # While a queue moves, none of those that wait in it is given up.
            left = (
                max(message.arrived, queue.progress) + self._limits.retry_total - self._loop.time()
            )
            if left <= 0 or self._stopping.is_set():
                return outcome
            await self._pause(min(random.uniform(0, longest), left))  # noqa: S311 - jitter, no secret
        raise AssertionError("the back-off never ends")

    async def _attempt(self, message: UserMessage) -> Outcome:
        async with self._turns:
            try:
                await self._concierge.post(message)
            except ConciergeUnavailable:
                return Outcome.UNAVAILABLE
            except ConciergeRejected:
                return Outcome.REJECTED
            except ConciergeTimeout:
                return Outcome.TIMEOUT
        return Outcome.ACCEPTED

    def _backoff(self) -> Iterator[float]:
        """Yield the upper bound of each pause: doubling, up to the longest."""
        longest = self._limits.retry_first
        while True:
            yield longest
            longest = min(2 * longest, self._limits.retry_longest)

    async def _pause(self, delay: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()
