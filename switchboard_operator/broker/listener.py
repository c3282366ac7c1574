"""The way from Redis: a subscription that can't be lost or go deaf unseen."""

import asyncio
import uuid
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Never

from msgspec import json
from redis.exceptions import ResponseError

from switchboard_operator import messages
from switchboard_operator.broker import bundle, channels
from switchboard_operator.broker.base import Receipt, Subscriber
from switchboard_operator.broker.link import LINK_ERRORS, Link
from switchboard_operator.broker.linker import OpenLink
from switchboard_operator.broker.presence import QUESTION_OR_ANSWER, Presence
from switchboard_operator.broker.publication import future_of
from switchboard_operator.broker.publisher import Publisher
from switchboard_operator.broker.reconnector import Reconnector, ended
from switchboard_operator.errors import PostbackRefused
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Postback
from switchboard_operator.metrics import Metrics

_OWN = channels.OWN.encode()
_ANY_PROBE = f'{{"to":"{channels.PROBE}'.encode()
FEW_FOR_US = 32  # one in so many messages, or fewer: waking up for each is most of what they cost
SMALL = 1024  # bytes that a message counts for beyond its own, since many small ones take time too


class ProbeLost(TimeoutError):
    """A message that Redis has taken did not come back to us."""


class Listener:
    """
    Delivers what anybody publishes on the channel, and makes sure that it hears.

    A probe goes the way of every postback, addressed to nobody; if Redis took it and it does not
    come back, the subscription is worth nothing and is made anew.
    """

    def __init__(
        self,
        open_link: OpenLink,
        publisher: Publisher,
        presence: Presence,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """Listen over links from *open_link*; probe by *publisher*, answer by *presence*."""
        self._links = Reconnector("listener", open_link, limits)
        self._publisher = publisher
        self._presence = presence
        self._limits = limits
        self._metrics = metrics
        self._probe_address = f"{channels.PROBE}{uuid.uuid4().hex}"
        self._probe = json.encode({"to": self._probe_address})
        self._probes = 0
        self._heard = asyncio.Event()
        self._received = 0  # messages, as a measure of progress
        self._unwritten = 0  # bytes delivered since writers had a turn
        self._others = 0  # messages since one was for us

    @property
    def up(self) -> bool:
        """Tell whether the subscription works, as far as the last probe knows."""
        return self._links.up

    async def run(self, subscriber: Subscriber) -> Never:
        """Tell *subscriber* of every postback, over one subscription after the other."""
        await self._links.run(lambda link: self._listen_on(link, subscriber))

    async def _listen_on(self, link: Link, subscriber: Subscriber) -> Never:
        await self._subscribe(link)
        self._links.works()
        subscriber.resync()
        tasks = [
            asyncio.create_task(
                link.listen(partial(self._take, subscriber), partial(self._write, subscriber))
            ),
            asyncio.create_task(self._resume_and_probe()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._publisher.pause()
            await ended(tasks)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        # Should both have failed, a bug of ours is more than a broken link.
        failures = [end for end in ends if isinstance(end, Exception)]
        raise min(failures, key=lambda failure: isinstance(failure, LINK_ERRORS))

    async def _subscribe(self, link: Link) -> None:
        """Listen to both channels, or to that of anybody if Redis lets us have no other."""
        try:
            await link.subscribe(channels.ANYBODYS, channels.OWN)
        except ResponseError:  # instances notice that by themselves, and use the other one
            await link.subscribe(channels.ANYBODYS)

    def _take(self, subscriber: Subscriber, channel: bytes, data: bytes) -> bool:
        """Take a message; return whether writers should have a turn before the next one."""
        self._received += 1
        if channel == _OWN:
            self._take_bundle(data, subscriber)
        else:
            self._take_single(data, subscriber)
        self._unwritten += len(data) + SMALL
        if self._unwritten <= self._limits.burst_bytes:
            return False
        self._unwritten = 0
        return True

    def _write(self, subscriber: Subscriber) -> float:
        """Have written what was taken; return how many seconds there is no hurry to take more."""
        subscriber.write()
        return self._limits.lull if self._others >= FEW_FOR_US else 0.0

    def _take_bundle(self, data: bytes, subscriber: Subscriber) -> None:
        try:
            deliveries = bundle.read(data, subscriber)
        except bundle.BadBundle:
            self._metrics.rejects.labels("broadcast").inc()
            return
        self._unwritten += SMALL * len(deliveries)
        self._others = 0 if deliveries else self._others + 1
        for delivery in deliveries:
            subscriber.deliver(delivery)
        if not self._heard.is_set() and bundle.has(data, self._probe_address):
            self._heard.set()

    def _take_single(self, data: bytes, subscriber: Subscriber) -> None:
        try:
            delivery = messages.parse_broadcast(
                data, max_bytes=self._limits.array_bytes, wanted=subscriber.has
            )
        except PostbackRefused:
            self._take_junk(data, subscriber)
        else:
            self._others += 1
            if delivery is not None:
                self._others = 0
                subscriber.deliver(delivery)

    def _take_junk(self, data: bytes, subscriber: Subscriber) -> None:
        """Count what is no postback, but for what instances say to each other."""
        if data == self._probe:
            self._heard.set()
        elif data.startswith(QUESTION_OR_ANSWER):
            self._presence.take(data, subscriber)
        elif not data.startswith(_ANY_PROBE):
            self._metrics.rejects.labels("broadcast").inc()

    async def _resume_and_probe(self) -> Never:
        # Other instances were cut off by the same outage: they get the time to be back, too.
        await asyncio.sleep(self._limits.redis_settle)
        self._publisher.resume()
        published: asyncio.Future[Receipt] | None = None
        while True:
            await asyncio.sleep(self._limits.probe_every)
            self._heard.clear()
            if published is None or published.done():
                published = future_of(self._publisher.put_probe(self._next_probe()))
            # One that is not published says nothing about our hearing, and is waited for.
            done, _ = await asyncio.wait({published}, timeout=self._limits.probe_answer)
            if done:
                await self._hear_probe()

    def _next_probe(self) -> Postback:
        self._probes += 1
        return Postback(self._probe_address, self._probe, str(self._probes))

    async def _hear_probe(self) -> None:
        """
        Wait for the probe, as long as anything comes in: messages ahead of it on a slow link.

        Raises:
            ProbeLost: nothing comes in.
        """
        began = monotonic()
        while not self._heard.is_set():
            before = self._received
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.probe_answer):
                    await self._heard.wait()
            if not self._heard.is_set() and self._received == before:
                raise ProbeLost("the probe did not come back")
        self._metrics.probe_seconds.set(monotonic() - began)
