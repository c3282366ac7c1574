"""The way from Redis: a subscription that can't be lost or go deaf unseen."""

import asyncio
import uuid
from time import monotonic
from typing import Never

from msgspec import json

from switchboard_operator import messages
from switchboard_operator.broker.base import Deliver
from switchboard_operator.broker.link import Line, Link, OpenLink
from switchboard_operator.broker.publisher import CHANNEL, Publisher
from switchboard_operator.errors import BrokerFull, PostbackRefused
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics


class Deaf(TimeoutError):
    """A message that Redis has taken did not come back to us."""


class Listener:
    """
    Delivers what anybody publishes on the channel, and makes sure that it hears.

    A probe goes the way of every postback, addressed to nobody; if Redis took it and it does not
    come back, the subscription is worth nothing and is made anew.
    """

    def __init__(
        self, open_link: OpenLink, publisher: Publisher, limits: Limits, metrics: Metrics
    ) -> None:
        """Listen over links from *open_link*; probe by *publisher*."""
        self._line = Line("listener", open_link, limits)
        self._publisher = publisher
        self._limits = limits
        self._metrics = metrics
        self._probe_address = (
            f"~probe.{uuid.uuid4().hex}"  # no session's: `~` is not in their alphabet
        )
        self._probe = json.encode({"to": self._probe_address})
        self._heard = asyncio.Event()

    @property
    def up(self) -> bool:
        """Tell whether the subscription works, as far as the last probe knows."""
        return self._line.up

    async def run(self, deliver: Deliver) -> Never:
        """Call *deliver* with every postback, over one subscription after the other."""
        await self._line.run(lambda link: self._listen_on(link, deliver))

    async def _listen_on(self, link: Link, deliver: Deliver) -> Never:
        await link.call("SUBSCRIBE", CHANNEL)
        self._line.works()
        self._publisher.open()
        probing = asyncio.create_task(self._keep_probing())
        reading = asyncio.create_task(self._read(link, deliver))
        try:
            done, _ = await asyncio.wait({probing, reading}, return_when=asyncio.FIRST_COMPLETED)
            raise done.pop().exception() or AssertionError("neither of these ends by itself")
        finally:
            self._publisher.hold()
            probing.cancel()
            reading.cancel()
            await asyncio.gather(probing, reading, return_exceptions=True)

    async def _read(self, link: Link, deliver: Deliver) -> Never:
        while True:
            _, _, data = await link.next_message()
            try:
                postback = messages.parse_broadcast(data)
            except PostbackRefused:
                self._take_junk(data)
            else:
                deliver(postback)

    def _take_junk(self, data: bytes) -> None:
        """Count what is no postback, but for our own probe."""
        if data == self._probe:
            self._heard.set()
        elif not data.startswith(b'{"to":"~probe.'):
            self._metrics.rejects.labels("broadcast").inc()

    async def _keep_probing(self) -> Never:
        while True:
            await asyncio.sleep(self._limits.probe_every)
            self._heard.clear()
            if await self._publish_probe():
                await self._hear_probe()

    async def _publish_probe(self) -> bool:
        """Return whether the probe is published; if not, that says nothing about our hearing."""
        try:
            published = self._publisher.put([self._probe])
        except BrokerFull:
            return False
        done, _ = await asyncio.wait({published}, timeout=self._limits.probe_answer)
        return bool(done)

    async def _hear_probe(self) -> None:
        began = monotonic()
        try:
            async with asyncio.timeout(self._limits.probe_answer):
                await self._heard.wait()
        except TimeoutError as exc:
            raise Deaf("the probe did not come back") from exc
        self._metrics.probe_seconds.set(monotonic() - began)
