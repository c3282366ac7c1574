"""A broker for many processes: what is published on one reaches all that listen, over Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Never

import structlog

from switchboard_operator.broker.base import Deliver, Health, Receipt
from switchboard_operator.broker.link import linker
from switchboard_operator.broker.listener import Listener
from switchboard_operator.broker.publisher import Publisher
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Postback
from switchboard_operator.metrics import Metrics

log = structlog.get_logger()


class RedisBroker:
    """
    Joins instances over a Redis that may be away.

    A postback that Redis does not confirm in time is held, in order with all others, and published
    when Redis is back.
    """

    def __init__(self, url: str, limits: Limits, metrics: Metrics, *, verify: bool) -> None:
        """Use the Redis at *url*; *verify* its certificate if it has one."""
        open_link = linker(url, limits, verify=verify)
        self._limits = limits
        self._metrics = metrics
        self._publisher = Publisher(open_link, limits, metrics)
        self._listener = Listener(open_link, self._publisher, limits, metrics)
        metrics.redis_up.set_function(lambda: self._publisher.up)
        metrics.listener_up.set_function(lambda: self._listener.up)
        metrics.postbacks_held.set_function(lambda: self._publisher.held)

    @asynccontextmanager
    async def listen(self, deliver: Deliver) -> AsyncIterator[None]:
        """Call *deliver* with each postback published anywhere, in order, within the context."""
        tasks = [
            asyncio.create_task(self._keep("publisher", self._publisher.run)),
            asyncio.create_task(self._keep("listener", lambda: self._listener.run(deliver))),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
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

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Publish *postbacks* in order, or hold them. Raises BrokerFull if no more can be held."""
        published = self._publisher.put([postback.body for postback in postbacks])
        done, _ = await asyncio.wait({published}, timeout=self._limits.confirm)
        return Receipt(confirmed=bool(done))

    async def flush(self) -> None:
        """Wait until nothing is held."""
        await self._publisher.emptied()

    def health(self) -> Health:
        """Tell whether Redis answers and our subscription hears."""
        return Health(redis=self._publisher.up, listening=self._listener.up)
