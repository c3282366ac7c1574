"""The way to Redis: one queue, in order, in batches, which is also where postbacks wait it out."""

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Never

import structlog
from redis.exceptions import ResponseError

from switchboard_operator import marks
from switchboard_operator.broker import keys, scripts
from switchboard_operator.broker.base import Receipt
from switchboard_operator.broker.link import LINK_ERRORS, Command, Link, OpenLink, Reconnector
from switchboard_operator.errors import BrokerFull
from switchboard_operator.limits import Limits
from switchboard_operator.logs import Occasions
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Postback, tag_place, untagged
from switchboard_operator.metrics import Metrics

CHANNEL = "bot-message"
LEAST_BATCH = 16 * 1024  # bytes in one call on the slowest of links, or one message
NO_MAILBOX = 0  # postbacks kept
PROBE_LIFETIME = 60  # seconds
REPEATED, BARE = 1, 2  # what publish.lua says of a postback

log = structlog.get_logger()


class _Publication:
    """Messages that were put together, and what has become of those at their head."""

    def __init__(self, count: int, *, is_probe: bool) -> None:
        self.done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.is_probe = is_probe  # which is nothing to lose
        self._waiting = count
        self._marks: list[Mark | None] = []
        self._repeated = True  # until one was not

    def confirm(self, mark: Mark | None, *, repeated: bool) -> None:
        self._marks.append(mark)
        self._repeated = self._repeated and repeated
        self._waiting -= 1
        if not self._waiting:
            self.done.set_result(Receipt(True, tuple(self._marks), self._repeated))


@dataclass(slots=True, eq=False)
class _Entry:
    """A message that waits."""

    body: bytes
    command: Command
    publication: _Publication
    in_doubt: bool = False  # it was sent before: if Redis has had it, then from us


class Publisher:
    """
    Publishes messages in the order in which they were put.

    Its queue is the hold: what Redis has not confirmed stays at its head, and is sent again on the
    next link. Each postback has a key, so Redis knows those that it has had all the same.
    """

    def __init__(
        self, open_link: OpenLink, rules: MailboxRules, limits: Limits, metrics: Metrics
    ) -> None:
        """Publish over links from *open_link*, and into mailboxes as *rules* say."""
        self._links = Reconnector("publisher", open_link, limits)
        self._rules = rules
        self._limits = limits
        self._script_errors = metrics.script_errors
        self._queue: deque[_Entry] = deque()
        self._held = 0  # postbacks
        self._held_bytes = 0
        self._batch_bytes = limits.batch_bytes  # less while links break under that much
        self._paused = True
        self._wake = asyncio.Event()
        self._emptied = asyncio.Event()
        self._complaints = Occasions(limits.log_interval)
        self._check_key = keys.lease(f"~check.{uuid.uuid4().hex}")  # no session's

    @property
    def up(self) -> bool:
        """Tell whether Redis answered the last call."""
        return self._links.up

    @property
    def held(self) -> int:
        """Return the number of postbacks that Redis has not confirmed."""
        return self._held

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        """
        Queue postbacks; the future is done when all are published.

        Raises:
            BrokerFull: there is no room for them.
        """
        size = sum(len(postback.body) for postback in postbacks)
        too_many = self._held + len(postbacks) > self._limits.held_postbacks
        if too_many or self._held_bytes + size > self._limits.held_bytes:
            raise BrokerFull
        self._held += len(postbacks)
        self._held_bytes += size
        sizes = [self._rules.size_for(postback.session) for postback in postbacks]
        return self._append(postbacks, sizes, self._rules.once_lifetime, is_probe=False)

    def put_probe(self, probe: Postback) -> asyncio.Future[Receipt]:
        """Queue *probe*, which goes the way of postbacks but is nothing to lose."""
        return self._append([probe], [NO_MAILBOX], PROBE_LIFETIME, is_probe=True)

    def _append(
        self, postbacks: Sequence[Postback], sizes: Sequence[int], lifetime: int, *, is_probe: bool
    ) -> asyncio.Future[Receipt]:
        publication = _Publication(len(postbacks), is_probe=is_probe)
        self._queue.extend(
            _Entry(postback.body, self._publishing(postback, size, lifetime), publication)
            for postback, size in zip(postbacks, sizes, strict=True)
        )
        self._wake.set()
        return publication.done

    def _publishing(self, postback: Postback, size: int, lifetime: int) -> Command:
        session, rules = postback.session, self._rules
        return scripts.PUBLISH.call(
            (keys.once(session, postback.key), keys.state(session), keys.bodies(session)),
            CHANNEL,
            postback.body,
            tag_place(postback.body),
            marks.new_epoch(),
            size,
            rules.most_bytes,
            rules.lifetime,
            rules.state_lifetime,
            lifetime,
        )

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
        """Run a script that writes, as publishing does: a PING works where writing does not."""
        claim = scripts.CLAIM.call((self._check_key, self._check_key), "", 1000 * PROBE_LIFETIME)
        replies = await scripts.run(link, [claim])
        # No longer the master: the next link may lead to it.
        scripts.raise_read_only(replies)
        if isinstance(replies[0], ResponseError):
            await link.call("PING")

    def _batch(self) -> list[_Entry]:
        """Return the messages at the head of the queue, as many as go well into one call."""
        batch: list[_Entry] = []
        size = 0
        for entry in islice(self._queue, self._limits.batch_messages):
            size += len(entry.body)
            if batch and size > self._batch_bytes:
                break
            batch.append(entry)
        return batch

    async def _publish(self, link: Link, batch: list[_Entry]) -> None:
        try:
            replies = await scripts.run_in_order(link, [entry.command for entry in batch])
        except LINK_ERRORS:
            # A slow link needs smaller calls; what it can take is found out from below.
            self._batch_bytes = max(LEAST_BATCH, self._batch_bytes // 2)
            for entry in batch:
                entry.in_doubt = True
            raise
        self._batch_bytes = min(5 * self._batch_bytes // 4, self._limits.batch_bytes)
        for reply in replies:
            await self._take(link, reply)

    async def _take(self, link: Link, reply: Any) -> None:
        """Take what Redis says of the message at the queue's head."""
        scripts.raise_read_only([reply])
        if isinstance(reply, ResponseError):
            await link.call("PUBLISH", CHANNEL, untagged(self._queue[0].body))
            reply = [b"", BARE]
        text, what = reply
        if what == BARE:
            self._complain()
        self._confirm_first(marks.parse(text.decode()), repeated=what == REPEATED)

    def _complain(self) -> None:
        self._script_errors.inc()
        if self._complaints.due("script", asyncio.get_running_loop().time()):
            log.warning("redis keeps nothing, publishing without ids")

    def _confirm_first(self, mark: Mark | None, *, repeated: bool) -> None:
        entry = self._queue.popleft()
        if not entry.publication.is_probe:
            self._held -= 1
            self._held_bytes -= len(entry.body)
        entry.publication.confirm(mark, repeated=repeated and not entry.in_doubt)
        if not self._held:
            self._emptied.set()
