"""The line from users to the Concierge: an ordered queue per session, one POST at a time."""

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from operator import itemgetter
from typing import Self

import structlog

from switchboard_operator.concierge import Concierge
from switchboard_operator.errors import ConciergeRejected, ConciergeTimeout, ConciergeUnavailable
from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.metrics import Metrics
from switchboard_operator.rate_limiter import RateLimiter

log = structlog.get_logger()


class Outcome(Enum):
    """What became of a user message."""

    ACCEPTED = "accepted"
    UNAVAILABLE = "concierge_unavailable"  # it can't have been processed
    TIMEOUT = "concierge_timeout"  # it may have been processed
    REJECTED = "concierge_rejected"


@dataclass(slots=True)
class _Queue:
    """What a session has said and is not settled, in order; the head is under way."""

    messages: deque[UserMessage] = field(default_factory=deque)
    size: int = 0  # bytes
    progress: float = 0.0  # the loop's time when the Concierge last accepted one
    waiters: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)


class Uplink:
    """
    Delivers the messages of each session in their order, sessions side by side.

    Everything is bounded: a session's queue, the POSTs under way, the time spent on one message. A
    queue that is full still takes what was read already; whoever reads waits for room.
    """

    def __init__(
        self,
        concierge: Concierge,
        rate: RateLimiter,
        concurrency: int,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """Post to *concierge*, at most *concurrency* messages at once."""
        self._concierge = concierge
        self._rate = rate
        self._turns = asyncio.Semaphore(concurrency)  # first come, first served
        self._limits = limits
        self._metrics = metrics
        self._closed = False
        self._queues: dict[str, _Queue] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def queued(self) -> int:
        """Return the number of messages waiting or under way."""
        return sum(len(queue.messages) for queue in self._queues.values())

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

    def put(self, message: UserMessage) -> None:
        """Take *message* behind all that its session has said."""
        queue = self._queues.get(message.session)
        if queue is None:
            queue = self._queues[message.session] = _Queue()
            self._start(message.session, queue)
        queue.messages.append(message)
        queue.size += len(message.body)

    def is_full(self, session: str) -> bool:
        """Tell whether *session* has said as much as may wait."""
        queue = self._queues.get(session)
        return queue is not None and self._has_no_room(queue)

    async def room(self, session: str, since: float) -> None:
        """
        Wait until *session* may say more.

        Of several that wait, the one whose *since* is least goes first: what a user said on an old
        socket comes before what they say on the next.
        """
        while (queue := self._queues.get(session)) is not None and self._has_no_room(queue):
            waiter = (since, self._loop.create_future())
            queue.waiters.append(waiter)
            try:
                await waiter[1]
            finally:
                queue.waiters.remove(waiter)

    def stop_retrying(self) -> None:
        """Try nothing again from now on, and keep nobody to a rate: the end is near."""
        self._stopping.set()

    async def emptied(self) -> None:
        """Wait until every message that was said is settled."""
        while self._workers:
            await asyncio.wait(self._workers)

    def _has_no_room(self, queue: _Queue) -> bool:
        parked = len(queue.messages) - self._limits.uplink_queue
        return parked >= self._limits.parked_frames or (
            parked > 0 and queue.size >= self._limits.parked_bytes
        )

    def _start(self, session: str, queue: _Queue) -> None:
        worker = asyncio.create_task(self._work(session, queue))
        self._workers.add(worker)
        worker.add_done_callback(lambda done: self._ended(session, queue, done))

    def _ended(self, session: str, queue: _Queue, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if self._closed:
            return
        if bug := worker.exception():
            self._metrics.task_failures.inc()
            log.error("uplink worker failed", exc_info=bug)
            self._pop(queue, "failed")
        if queue.messages:  # one more may have come since the worker saw none
            self._start(session, queue)
        else:
            del self._queues[session]

    async def _work(self, session: str, queue: _Queue) -> None:
        """Deliver the messages of one session, one after the other, until none is left."""
        while queue.messages:
            await self._keep_rate(session)
            message = queue.messages[0]
            outcome = await self._settle(message, queue)
            self._pop(queue, outcome.value)
            if outcome is not Outcome.ACCEPTED:
                log.warning(
                    "user message not delivered", request_id=message.key, outcome=outcome.value
                )

    def _pop(self, queue: _Queue, outcome: str) -> None:
        """Take the head, which is settled, out of *queue*, and let who waits for room go on."""
        queue.size -= len(queue.messages.popleft().body)
        self._metrics.user_messages.labels(outcome).inc()
        if not self._has_no_room(queue):
            for _, waiter in sorted(queue.waiters, key=itemgetter(0)):  # they go on in this order
                if not waiter.done():
                    waiter.set_result(None)

    async def _keep_rate(self, session: str) -> None:
        while delay := self._rate.delay(session, self._loop.time()):
            if self._stopping.is_set():
                return
            await self._pause(delay)
        self._rate.spend(session, self._loop.time())

    async def _settle(self, message: UserMessage, queue: _Queue) -> Outcome:
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
