"""The line from users to the Concierge: an ordered queue per session, one POST at a time."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import structlog

from switchboard_operator.concierge import Concierge
from switchboard_operator.errors import ConciergeRejected, ConciergeTimeout, ConciergeUnavailable
from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.metrics import Metrics
from switchboard_operator.pace import Pace

log = structlog.get_logger()


class Outcome(Enum):
    """What became of a user message."""

    ACCEPTED = "accepted"
    UNAVAILABLE = "concierge_unavailable"  # it can't have been processed
    TIMEOUT = "concierge_timeout"  # it may have been processed
    REJECTED = "concierge_rejected"


@dataclass(slots=True)
class _Line:
    """A session's queue. `pending` counts the messages in it, under way or waiting for room."""

    queue: asyncio.Queue[UserMessage]
    pending: int = 0
    progress: float = 0.0  # the loop's time when the Concierge last accepted one


class Uplink:
    """
    Delivers the messages of each session in their order, sessions side by side.

    Everything is bounded: a session's queue, the POSTs under way, the time spent on one message.
    Who finds a queue full, or is ahead of the session's pace, waits.
    """

    def __init__(
        self, concierge: Concierge, pace: Pace, concurrency: int, limits: Limits, metrics: Metrics
    ) -> None:
        """Post to *concierge*, at most *concurrency* messages at once."""
        self._concierge = concierge
        self._pace = pace
        self._turns = asyncio.Semaphore(concurrency)  # first come, first served
        self._limits = limits
        self._metrics = metrics
        self._lines: dict[str, _Line] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._hurried = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def queued(self) -> int:
        """Return the number of messages waiting or under way."""
        return sum(line.pending for line in self._lines.values())

    def offer(self, message: UserMessage) -> bool:
        """Take *message* if that needs no waiting; return whether it was taken."""
        now = self._loop.time()
        line = self._lines.get(message.session)
        if self._pace.delay(message.session, now) or (line is not None and line.queue.full()):
            return False
        self._pace.spend(message.session, now)
        self._join(message.session).queue.put_nowait(message)
        return True

    async def accept(self, message: UserMessage) -> None:
        """Take *message* as soon as its session's pace and queue allow."""
        line = self._join(message.session)
        try:
            await self._keep_pace(message.session)
            await line.queue.put(message)
        except asyncio.CancelledError:
            line.pending -= 1
            raise

    def hurry(self) -> None:
        """Try nothing again from now on, and keep nobody to a pace: the end is near."""
        self._hurried.set()

    async def emptied(self) -> None:
        """Wait until every message that was said is settled."""
        while self._workers:
            await asyncio.wait(self._workers)

    async def abandon(self) -> int:
        """Stop at once; return the number of messages that were not delivered."""
        left = self.queued
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        return left

    async def _keep_pace(self, session: str) -> None:
        while delay := self._pace.delay(session, self._loop.time()):
            if self._hurried.is_set():
                return
            await self._pause(delay)
        self._pace.spend(session, self._loop.time())

    def _join(self, session: str) -> _Line:
        line = self._lines.get(session)
        if line is None:
            line = self._lines[session] = _Line(asyncio.Queue(self._limits.uplink_queue))
            self._start(session, line)
        line.pending += 1
        return line

    def _start(self, session: str, line: _Line) -> None:
        worker = asyncio.create_task(self._work(line))
        self._workers.add(worker)
        worker.add_done_callback(lambda done: self._ended(session, line, done))

    def _ended(self, session: str, line: _Line, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if worker.cancelled():
            return
        if bug := worker.exception():
            self._metrics.task_failures.inc()
            log.error("uplink worker failed", exc_info=bug)
        if line.pending:  # one more may have come since the worker saw none
            self._start(session, line)
        else:
            del self._lines[session]

    async def _work(self, line: _Line) -> None:
        """Deliver the messages of one session, one after the other, until none is pending."""
        while line.pending:
            message = await line.queue.get()
            try:
                outcome = await self._settle(message, line)
            finally:
                line.pending -= 1
            self._metrics.user_messages.labels(outcome.value).inc()
            if outcome is not Outcome.ACCEPTED:
                log.warning(
                    "user message not delivered", request_id=message.key, outcome=outcome.value
                )

    async def _settle(self, message: UserMessage, line: _Line) -> Outcome:
        """Post *message* until its outcome is known or its time is up."""
        for longest in self._backoff():
            outcome = await self._attempt(message)
            if outcome is Outcome.ACCEPTED:
                line.progress = self._loop.time()
            if outcome is not Outcome.UNAVAILABLE:
                return outcome
            # A line that moves is no reason to give up on those that wait in it.
            left = (
                max(message.arrived, line.progress) + self._limits.retry_total - self._loop.time()
            )
            if left <= 0 or self._hurried.is_set():
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
                await self._hurried.wait()
