"""The way to Redis: what waits is published in order, in batches, over one link at a time."""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Never

import structlog
from redis.exceptions import RedisError, ResponseError

from switchboard_operator import marks
from switchboard_operator.broker import bundle, channels, keys, scripts
from switchboard_operator.broker.alarm import Alarm
from switchboard_operator.broker.hold import Entry, Hold
from switchboard_operator.broker.link import Link
from switchboard_operator.broker.linker import OpenLink
from switchboard_operator.broker.publication import Publication
from switchboard_operator.broker.publish_command import PublishCommand
from switchboard_operator.broker.reconnector import Reconnector
from switchboard_operator.limits import Limits
from switchboard_operator.logs import Occasions
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.messages import Postback, untagged
from switchboard_operator.metrics import Metrics

LEAST_BATCH = 16 * 1024  # bytes in one call on the slowest of links, or one message
CHECK_LIFETIME = 60  # seconds
UNDER_WAY = 2  # batches at most
SURE = 8  # messages of a batch for which to send the whole script costs little
SIDE_BY_SIDE = 64  # messages at most: more take so long that others come meanwhile
REPEATED, BARE = 1, 2  # what publish.lua says of a postback that is not as usual

log = structlog.get_logger()


class Publisher:
    """
    Publishes messages in the order in which they were put.

    What Redis has not confirmed is held, and sent again on the next link. Each postback has a key,
    so Redis knows those that it has had all the same.
    """

    def __init__(
        self, open_link: OpenLink, rules: MailboxRules, limits: Limits, metrics: Metrics
    ) -> None:
        """Publish over links from *open_link*, and into mailboxes as *rules* say."""
        self._links = Reconnector("publisher", open_link, limits)
        self._limits = limits
        self._script_errors = metrics.script_errors
        self._command = PublishCommand(rules)
        self._hold = Hold(self._command, limits)
        self._batch_bytes = limits.batch_bytes  # less while links break under that much
        self._paused = True
        self._alarm = Alarm(limits.probe_every)
        self._link: Link | None = None  # which takes what is put …
        self._loop: asyncio.AbstractEventLoop  # … on this loop
        self._checking = False  # and it is not to be disturbed
        self._gathering = False  # there will be more in this turn
        self._under_way: deque[list[Entry]] = deque()  # batches, the oldest first
        self._doubted: list[Entry] = []  # of which Redis did not run all, and what went after them
        self._complaints = Occasions(limits.log_interval)
        self._check_key = keys.lease(f"~check.{uuid.uuid4().hex}")  # no session's

    @property
    def up(self) -> bool:
        """Tell whether Redis answered the last call."""
        return self._links.up

    @property
    def held(self) -> int:
        """Return the number of postbacks that Redis has not confirmed."""
        return self._hold.held

    def put(self, postbacks: Sequence[Postback]) -> Publication:
        """Queue postbacks; the publication is done when all are published. Raises BrokerFull."""
        published = self._hold.put(postbacks)
        if not self._gathering and self._link is not None and len(self._under_way) < UNDER_WAY:
            self._gathering = True
            self._loop.call_soon(self._gathered)
        return published

    def put_probe(self, probe: Postback) -> Publication:
        """Queue *probe*, which goes the way of postbacks but is nothing to lose."""
        published = self._hold.put_probe(probe)
        self._go_on()
        return published

    def resume(self) -> None:
        """Publish from now on: what comes back is heard."""
        self._paused = False
        self._go_on()

    def pause(self) -> None:
        """Publish nothing for now: this instance itself would not hear it."""
        self._paused = True

    async def emptied(self) -> None:
        """Wait until no postback is held."""
        await self._hold.emptied()

    async def run(self) -> Never:
        """Publish what is put, over one link after the other."""
        await self._links.run(self._publish_on)

    async def _publish_on(self, link: Link) -> Never:
        await self._check(link)
        await _check_publishing(link)
        self._links.works()
        self._link, self._loop = link, asyncio.get_running_loop()
        link.broken = self._alarm.ring
        try:
            self._go_on()
            while True:
                await self._alarm.sleep()
                link.check()
                await self._see_to(link)
        finally:
            self._link = None
            self._doubt()

    def _go_on(self) -> None:
        """Publish what waits, unless enough is under way."""
        while self._link is not None and not (self._paused or self._checking or self._doubted):
            sent = sum(map(len, self._under_way))
            waiting = len(self._hold) - sent
            if not self._may_follow(waiting):
                return
            # Of what posters sent side by side half goes first: else they would do so for ever, and
            # we and Redis take turns at being idle.
            splits = not self._under_way and 2 * SURE <= waiting <= SIDE_BY_SIDE
            most = waiting // 2 if splits else waiting
            batch = self._hold.batch(self._batch_bytes, sent, most)
            load = bool(self._under_way) or len(batch) >= SURE
            self._under_way.append(batch)
            self._link.send([self._call(batch, load=load)], self._take)

    def _call(self, batch: Sequence[Entry], *, load: bool) -> bytes:
        return self._command.call([entry.part for entry in batch], time.time(), load=load)

    def _gathered(self) -> None:
        """Publish what came in the same turn of the loop: one call takes less than several do."""
        self._gathering = False
        self._go_on()

    def _may_follow(self, waiting: int) -> bool:
        """
        Tell whether some of what is *waiting* may go out, if need be behind what is under way.

        That is so that Redis need not wait. Not if either may find the script unknown: what came
        first would be run after the other.
        """
        if not self._under_way:
            return waiting > 0
        return len(self._under_way) < UNDER_WAY and min(len(self._under_way[0]), waiting) >= SURE

    def _take(self, replies: list[Any]) -> None:
        """Take what Redis says of a batch; what is not as usual is for the task to sort out."""
        batch, published = self._under_way.popleft(), replies[0]
        if self._doubted or isinstance(published, RedisError):
            self._doubted += batch
            if not self._under_way:
                self._alarm.ring()
            return
        for reply in published:
            self._confirm(reply)
        self._grow()
        self._go_on()

    async def _see_to(self, link: Link) -> None:
        """Sort batches out, or look whether Redis is there: a link that rests may be broken."""
        if self._under_way:
            return
        if self._doubted:
            await self._publish_again(link)
        else:
            self._checking = True
            await self._check(link)
            self._checking = False
        self._go_on()

    def _grow(self) -> None:
        self._batch_bytes = min(5 * self._batch_bytes // 4, self._limits.batch_bytes)

    def _doubt(self) -> None:
        """Note that what was under way may have been published."""
        doubted = [*self._doubted, *chain.from_iterable(self._under_way)]
        if doubted:
            # A slow link needs smaller calls; what it can take is found out from below.
            self._batch_bytes = max(LEAST_BATCH, self._batch_bytes // 2)
        for entry in doubted:
            entry.in_doubt = True
        self._doubted, self._checking = [], False
        self._under_way.clear()

    async def _check(self, link: Link) -> None:
        """Run a script that writes, as publishing does: a PING works where writing does not."""
        claim = scripts.CLAIM.call((self._check_key, self._check_key), "", 1000 * CHECK_LIFETIME)
        replies = await scripts.run(link, [claim])
        # No longer the master: the next link may lead to it.
        scripts.raise_read_only(replies)
        if isinstance(replies[0], ResponseError):
            await link.call("PING")

    async def _publish_again(self, link: Link) -> None:
        """Publish what is doubted, of which some may have been: each has a key, so Redis knows."""
        for entry in self._doubted:
            entry.in_doubt = True
        [replies] = await link.pipeline([self._call(self._doubted, load=True)])
        if not isinstance(replies, ResponseError):
            for reply in replies:
                self._confirm(reply)
        else:  # for the sake of one of them perhaps
            for entry in self._doubted:
                await self._publish_alone(link, entry)
        self._doubted = []

    async def _publish_alone(self, link: Link, entry: Entry) -> None:
        """Publish the first that is held; if Redis refuses to number and keep it, bare."""
        [replies] = await link.pipeline([self._call([entry], load=True)])
        if isinstance(replies, ResponseError):
            scripts.raise_read_only([replies])
            await link.call("PUBLISH", channels.ANYBODYS, untagged(entry.body))
            replies = [[b"", BARE]]
        self._confirm(replies[0])

    def _confirm(self, reply: bytes | tuple[bytes, int]) -> None:
        """Take what Redis says of the first that is held."""
        if isinstance(reply, bytes):
            self._hold.confirm_first(reply.decode(), repeated=False)
            return
        [became, what] = reply
        if what == BARE:
            self._complain()
        id_ = str(marks.parse(became.decode("utf-8", "replace")) or "")  # it has lain around
        self._hold.confirm_first(id_, repeated=what == REPEATED)

    def _complain(self) -> None:
        self._script_errors.inc()
        if self._complaints.due("script", self._loop.time()):
            log.warning("redis keeps nothing, publishing without ids")


async def _check_publishing(link: Link) -> None:
    """Publish what says nothing to anybody. Raises ResponseError if that is not allowed."""
    try:
        await link.call("PUBLISH", channels.OWN, bundle.EMPTY)
    except ResponseError:
        await link.call("PUBLISH", channels.ANYBODYS, channels.NOTHING)
