"""The way to Redis: one queue, in order, in batches, which is also where postbacks wait it out."""

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import structlog
from redis.exceptions import ReadOnlyError, ResponseError

from switchboard_operator.broker.link import Line, Link, OpenLink
from switchboard_operator.errors import BrokerFull
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics

CHANNEL = "bot-message"
NUMBER_LIFETIME = 86400  # seconds that Redis remembers what this publisher has published

_SCRIPT = Path(__file__).with_name("publish.lua").read_text()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Publication:
    """Messages that go out together; `first` is the number of the first of them."""

    messages: Sequence[bytes]
    first: int
    size: int  # bytes
    done: asyncio.Future[None]


class Publisher:
    """
    Publishes messages in the order in which they were put, each once.

    Its queue is the hold: what Redis has not confirmed stays at its head, and is sent again on the
    next link. Messages are numbered, so Redis knows those that it has had all the same.
    """

    def __init__(self, open_link: OpenLink, limits: Limits, metrics: Metrics) -> None:
        """Publish over links from *open_link*."""
        self._line = Line("publisher", open_link, limits)
        self._limits = limits
        self._script_errors = metrics.script_errors
        self._key = f"switchboard:publisher:{uuid.uuid4().hex}"
        self._queue: deque[_Publication] = deque()
        self._held_bytes = 0
        self._next = 1
        self._open = False
        self._wake = asyncio.Event()
        self._emptied = asyncio.Event()
        self._complained_at = float("-inf")

    @property
    def up(self) -> bool:
        """Tell whether Redis answered the last call."""
        return self._line.up

    @property
    def held(self) -> int:
        """Return the number of messages that Redis has not confirmed."""
        return self._next - self._queue[0].first if self._queue else 0

    def put(self, messages: Sequence[bytes]) -> asyncio.Future[None]:
        """
        Queue *messages*; the future is done when all are published.

        Raises:
            BrokerFull: there is no room for them.
        """
        size = sum(map(len, messages))
        too_many = self.held + len(messages) > self._limits.held_postbacks
        if too_many or self._held_bytes + size > self._limits.held_bytes:
            raise BrokerFull
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Publication(messages, self._next, size, done))
        self._next += len(messages)
        self._held_bytes += size
        self._wake.set()
        return done

    def open(self) -> None:
        """Publish from now on: what comes back is heard."""
        self._open = True
        self._wake.set()

    def hold(self) -> None:
        """Publish nothing for now: this instance itself would not hear it."""
        self._open = False
        self._wake.set()

    async def emptied(self) -> None:
        """Wait until everything is published."""
        while self._queue:
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> Never:
        """Publish what is put, over one link after the other."""
        await self._line.run(self._publish_on)

    async def _publish_on(self, link: Link) -> Never:
        await link.call("PING")
        self._line.works()
        while True:
            if self._open and self._queue:
                await self._publish(link, self._batch())
            elif not await self._woken():
                await link.call("PING")  # a link that is not used is not known to work

    async def _woken(self) -> bool:
        """Wait for something to publish, not too long; return whether it came."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.probe_every):
                await self._wake.wait()
        return self._open and bool(self._queue)

    def _batch(self) -> list[_Publication]:
        """Return the head of the queue, as much as goes well into one call."""
        batch: list[_Publication] = []
        count = size = 0
        for publication in self._queue:
            batch.append(publication)
            count += len(publication.messages)
            size += publication.size
            if count >= self._limits.batch_messages or size >= self._limits.batch_bytes:
                break
        return batch

    async def _publish(self, link: Link, batch: list[_Publication]) -> None:
        messages = [message for publication in batch for message in publication.messages]
        first = batch[0].first
        try:
            await link.call(
                "EVAL", _SCRIPT, 1, self._key, CHANNEL, NUMBER_LIFETIME, first, *messages
            )
        except ReadOnlyError:  # no longer the master: the next link may lead to the one that is
            raise
        except ResponseError as exc:
            await self._publish_bare(link, messages, exc)
        self._confirm(batch)

    async def _publish_bare(self, link: Link, messages: list[bytes], error: ResponseError) -> None:
        """Publish without numbers what the script can't, for want of memory for instance."""
        self._script_errors.inc()
        now = asyncio.get_running_loop().time()
        if now - self._complained_at >= self._limits.complaint:
            self._complained_at = now
            log.warning(
                "redis refuses the script, publishing without it", error=type(error).__name__
            )
        for message in messages:
            await link.call("PUBLISH", CHANNEL, message)

    def _confirm(self, batch: list[_Publication]) -> None:
        for publication in batch:
            self._queue.popleft()
            self._held_bytes -= publication.size
            if not publication.done.cancelled():
                publication.done.set_result(None)
        if not self._queue:
            self._emptied.set()
