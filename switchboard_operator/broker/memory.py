"""A broker for one process: what is published is delivered here, at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from switchboard_operator.broker.base import Deliver, Health, Receipt
from switchboard_operator.messages import Postback


class MemoryBroker:
    """Stands in for Redis where a single instance runs."""

    def __init__(self) -> None:
        """Begin with nobody listening."""
        self._deliver: Deliver | None = None

    @asynccontextmanager
    async def listen(self, deliver: Deliver) -> AsyncIterator[None]:
        """Call *deliver* with each postback, in order, within the context."""
        self._deliver = deliver
        try:
            yield
        finally:
            self._deliver = None

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Hand *postbacks* over before returning; the writers have a turn in between."""
        for postback in postbacks:
            if self._deliver is not None:
                self._deliver(postback)
            if len(postbacks) > 1:
                await asyncio.sleep(0)
        return Receipt(confirmed=True)

    async def flush(self) -> None:
        """Return at once: nothing is ever held."""

    def health(self) -> Health:
        """Tell whether somebody listens; there is no Redis."""
        return Health(redis=None, listening=self._deliver is not None)
