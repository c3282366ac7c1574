"""A broker for one process: what is published is delivered here, at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from switchboard_operator import marks
from switchboard_operator.broker.base import Health, Receipt, Subscriber
from switchboard_operator.broker.memory_leases import MemoryLeases
from switchboard_operator.broker.memory_mailbox import MemoryMailbox
from switchboard_operator.broker.recent import Recent
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery, Postback


class MemoryBroker:
    """Stands in for Redis where a single instance runs."""

    def __init__(self, rules: MailboxRules, limits: Limits) -> None:
        """Begin with nobody listening."""
        self.mailbox = MemoryMailbox(rules)
        self.leases = MemoryLeases(limits)
        self._once = Recent(rules.once_lifetime, limits.once)
        self._subscriber: Subscriber | None = None

    @asynccontextmanager
    async def listen(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """Tell *subscriber* of each postback, in order, within the context."""
        self._subscriber = subscriber
        try:
            yield
        finally:
            self._subscriber = None

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        """Hand *postbacks* over at once."""
        published: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        published.set_result(_joined([self._publish_once(postback) for postback in postbacks]))
        return published

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Hand *postbacks* over before returning; the writers have a turn in between."""
        published = []
        for postback in postbacks:
            published.append(self._publish_once(postback))
            if len(postbacks) > 1:
                await asyncio.sleep(0)
        return _joined(published)

    def _publish_once(self, postback: Postback) -> tuple[Mark | None, bool]:
        """Return the id of *postback*, and whether it was published before."""
        became = self._once.get(postback.session, postback.key)
        if became is not None:
            return marks.parse(became), True
        return self._publish(postback), False

    def _publish(self, postback: Postback) -> Mark | None:
        mark = self.mailbox.add(postback.session, postback.body)
        self._once.put(postback.session, postback.key, str(mark or ""))
        if self._subscriber is not None:
            self._subscriber.deliver(Delivery(postback.session, postback.body, mark))
            self._subscriber.write()
        return mark

    async def sockets(self, session: str) -> int:
        """Return how many sockets of *session* there are."""
        return self._subscriber.sockets_of(session) if self._subscriber is not None else 0

    async def flush(self) -> None:
        """Return at once: nothing is ever held."""

    def health(self) -> Health:
        """Tell whether somebody listens; there is no Redis."""
        return Health(redis=None, listening=self._subscriber is not None)


def _joined(published: Sequence[tuple[Mark | None, bool]]) -> Receipt:
    ids = tuple(str(mark or "") for mark, _ in published)
    return Receipt(True, ids, repeated=all(repeated for _, repeated in published))
