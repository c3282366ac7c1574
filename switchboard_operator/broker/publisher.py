"""The way to Redis: one queue, in order, in batches, which is also where postbacks wait it out."""

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Never

import structlog
from redis.exceptions import ReadOnlyError, ResponseError

from switchboard_operator.broker.link import LINK_ERRORS, Link, OpenLink, Reconnector
from switchboard_operator.errors import BrokerFull
from switchboard_operator.limits import Limits
from switchboard_operator.logs import Occasions
from switchboard_operator.metrics import Metrics

CHANNEL = "bot-message"
LEAST_BATCH = 16 * 1024  # bytes in one call on the slowest of links, or one message
NUMBER_LIFETIME = 86400  # seconds that Redis remembers what this publisher has published

_SCRIPT = Path(__file__).with_name("publish.lua").read_text()

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A message that waits; `done` is there for the last of those that were put together."""

    message: bytes
    is_postback: bool  # a probe is not, and nothing to lose
    done: asyncio.Future[None] | None


class Publisher:
    """
    Publishes messages in the order in which they were put.

    Its queue is the hold: what Redis has not confirmed stays at its head, and is sent again on the
    next link. Messages are numbered, so Redis knows those that it has had all the same.
    """

    def __init__(self, open_link: OpenLink, limits: Limits, metrics: Metrics) -> None:
        """Publish over links from *open_link*."""
        self._links = Reconnector("publisher", open_link, limits)
        self._limits = limits
        self._script_errors = metrics.script_errors
        self._key = f"switchboard:publisher:{uuid.uuid4().hex}"
        self._queue: deque[_Entry] = deque()
        self._held = 0  # postbacks
        self._held_bytes = 0
        self._first = 1  # the number of the message at the queue's head
        self._batch_bytes = limits.batch_bytes  # less while links break under that much
        self._paused = True
        self._wake = asyncio.Event()
        self._emptied = asyncio.Event()
        self._complaints = Occasions(limits.log_interval)

    @property
    def up(self) -> bool:
        """Tell whether Redis answered the last call."""
        return self._links.up

    @property
    def held(self) -> int:
        """Return the number of postbacks that Redis has not confirmed."""
        return self._held

    def put(self, messages: Sequence[bytes]) -> asyncio.Future[None]:
        """
        Queue postbacks; the future is done when all are published.

        Raises:
            BrokerFull: there is no room for them.
        """
        size = sum(map(len, messages))
        too_many = self._held + len(messages) > self._limits.held_postbacks
        if too_many or self._held_bytes + size > self._limits.held_bytes:
            raise BrokerFull
        return self._append(messages, size, is_postback=True)

    def put_probe(self, probe: bytes) -> asyncio.Future[None]:
        """Queue *probe*, which goes the way of postbacks but is nothing to lose."""
        return self._append([probe], 0, is_postback=False)

    def _append(
        self, messages: Sequence[bytes], size: int, *, is_postback: bool
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.extend(_Entry(message, is_postback, None) for message in messages[:-1])
        self._queue.append(_Entry(messages[-1], is_postback, done))
        self._held += len(messages) if is_postback else 0
        self._held_bytes += size
        self._wake.set()
        return done

    def resume(self) -> None:
        """Publish from now on: what comes back is heard."""
        self._paused = False
        self._wake.set()

    def pause(self) -> None:
        """Publish nothing for now: this instance itself would not hear it."""
        self._paused = True
        self._wake.set()

    async def emptied(self) -> None:
        """Wait until no postback is held."""
        while self._held:
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> Never:
        """Publish what is put, over one link after the other."""
        await self._links.run(self._publish_on)

    async def _publish_on(self, link: Link) -> Never:
        await self._check(link)
        self._links.works()
        while True:
            if self._queue and not self._paused:
                await self._publish(link, self._batch())
            elif not await self._woken():
                await self._check(link)  # a link that is not used is not known to work

    async def _woken(self) -> bool:
        """Wait for something to publish, not too long; return whether it came."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.probe_every):
                await self._wake.wait()
        return bool(self._queue) and not self._paused

    async def _check(self, link: Link) -> None:
        """Do all that publishing does, but with no message: a PING works where writing does not."""
        try:
            await self._run_script(link, [])
        except ReadOnlyError:
            raise
        except ResponseError:
            await link.call("PING")

    def _batch(self) -> list[bytes]:
        """Return the messages at the head of the queue, as many as go well into one call."""
        batch: list[bytes] = []
        size = 0
        for entry in islice(self._queue, self._limits.batch_messages):
            size += len(entry.message)
            if batch and size > self._batch_bytes:
                break
            batch.append(entry.message)
        return batch

    async def _publish(self, link: Link, batch: list[bytes]) -> None:
        try:
            await self._run_script(link, batch)
        except ReadOnlyError:  # no longer the master: the next link may lead to the one that is
            raise
        except ResponseError as exc:
            await self._publish_bare(link, batch, exc)
        except LINK_ERRORS:
            # A slow link needs smaller calls; what it can take is found out from below.
            self._batch_bytes = max(LEAST_BATCH, self._batch_bytes // 2)
            raise
        else:
            self._batch_bytes = min(5 * self._batch_bytes // 4, self._limits.batch_bytes)
            for _ in batch:
                self._confirm_first()

    async def _run_script(self, link: Link, batch: list[bytes]) -> None:
        await link.call(
            "EVAL", _SCRIPT, 1, self._key, CHANNEL, NUMBER_LIFETIME, self._first, *batch
        )

    async def _publish_bare(self, link: Link, batch: list[bytes], error: ResponseError) -> None:
        """Publish without numbers what the script can't, for want of memory for instance."""
        self._script_errors.inc()
        if self._complaints.due("script", asyncio.get_running_loop().time()):
            log.warning(
                "redis refuses the script, publishing without it", error=type(error).__name__
            )
        for message in batch:
            await link.call("PUBLISH", CHANNEL, message)
            self._confirm_first()

    def _confirm_first(self) -> None:
        entry = self._queue.popleft()
        self._first += 1
        if entry.is_postback:
            self._held -= 1
            self._held_bytes -= len(entry.message)
        if entry.done is not None:
            entry.done.set_result(None)
        if not self._held:
            self._emptied.set()
