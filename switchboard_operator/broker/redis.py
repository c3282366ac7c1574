"""A broker for many processes: what is published on one reaches all that listen, over Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Never

import structlog

from switchboard_operator.broker.base import Health, Receipt, Subscriber
from switchboard_operator.broker.calls import Calls
from switchboard_operator.broker.linker import linker
from switchboard_operator.broker.listener import Listener
from switchboard_operator.broker.presence import Presence
from switchboard_operator.broker.publication import Publication, future_of
from switchboard_operator.broker.publisher import Publisher
from switchboard_operator.broker.reconnector import ended
from switchboard_operator.broker.redis_leases import RedisLeases
from switchboard_operator.broker.redis_mailbox import RedisMailbox
from switchboard_operator.errors import BrokerUnavailable
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.messages import Postback
from switchboard_operator.metrics import Metrics

log = structlog.get_logger()


class RedisBroker:
    """
    Joins instances over a Redis that may be away.

    A postback that Redis does not confirm in time is held, in order with all others, and published
    when Redis is back.
    """

    def __init__(
        self, url: str, rules: MailboxRules, limits: Limits, metrics: Metrics, *, verify: bool
    ) -> None:
        """Use the Redis at *url*; *verify* its certificate if it has one."""
        open_link = linker(url, limits, verify=verify)
        self._limits = limits
        self._metrics = metrics
        self._publisher = Publisher(open_link, rules, limits, metrics)
        self._calls = Calls(open_link, limits)
        self._presence = Presence(self._calls, limits.presence)
        self._listener = Listener(open_link, self._publisher, self._presence, limits, metrics)
        self.mailbox = RedisMailbox(self._calls, rules, limits, metrics)
        self.leases = RedisLeases(self._calls, limits)
        metrics.redis_up.set_function(lambda: self._redis_up)
        metrics.listener_up.set_function(lambda: self._listener.up)
        metrics.postbacks_held.set_function(lambda: self._publisher.held)

    @asynccontextmanager
    async def listen(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """Tell *subscriber* of each postback published anywhere, in order, within the context."""
        tasks = [
            asyncio.create_task(self._keep("publisher", self._publisher.run)),
            asyncio.create_task(self._keep("listener", lambda: self._listener.run(subscriber))),
            asyncio.create_task(self._keep("calls", self._calls.run)),
            asyncio.create_task(self._keep("leases", self.leases.renew)),
        ]
        try:
            yield
        finally:
            await ended(tasks)
            if self._publisher.held:
                log.error("postbacks not published before the end", postbacks=self._publisher.held)

    async def _keep(self, name: str, run: Callable[[], Awaitable[Never]]) -> Never:
        """Start *run* again should a bug of ours end it: nobody must go deaf unseen."""
        while True:
            try:
                await run()
            except Exception:  # the task's last owner: nobody else would see it
                self._metrics.task_failures.inc()
                log.exception("broker task failed", task=name)
            await asyncio.sleep(self._limits.redis_pause)

    def put(self, postbacks: Sequence[Postback]) -> Publication:
        """Queue *postbacks* in order; the publication is done when all are confirmed."""
        return self._publisher.put(postbacks)

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Publish *postbacks* in order, or hold them. Raises BrokerFull if no more can be held."""
        published = future_of(self.put(postbacks))
        loop = asyncio.get_running_loop()
        late = loop.call_later(self._limits.confirm, _give_up, published)
        try:
            return await published
        finally:
            late.cancel()

    async def sockets(self, session: str) -> int:
        """Return how many sockets of *session* there are on all instances."""
        return await self._presence.count(session)

    async def flush(self) -> None:
        """Wait until no postback is held, all cursors are stored and leases given up."""
        await self._publisher.emptied()
        await self.mailbox.flush()
        with suppress(BrokerUnavailable):
            await self._calls.put(("PING",))  # behind all that was called before

    def health(self) -> Health:
        """Tell whether Redis answers and our subscription hears."""
        return Health(redis=self._redis_up, listening=self._listener.up)

    @property
    def _redis_up(self) -> bool:
        """Tell whether what publishes and what reads mailboxes both have a link that answers."""
        return self._publisher.up and self._calls.up


def _give_up(published: asyncio.Future[Receipt]) -> None:
    """Wait for it no longer: it is published when Redis is back, and nobody is told."""
    if not published.done():
        published.set_result(Receipt(confirmed=False))
