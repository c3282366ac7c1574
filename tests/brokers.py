"""Instances of a broker, in memory or joined by a real Redis, each with somebody who listens."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import json

from switchboard_operator.broker.base import Broker, Receipt
from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.broker.redis import RedisBroker
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import MailboxRules, Page
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery, Postback
from switchboard_operator.metrics import Metrics

RULES = MailboxRules(
    size=100,
    lifetime=86_400,
    state_lifetime=2_592_000,
    once_lifetime=1_800,
    most_bytes=1_000_000,
    page=20,
    page_bytes=256 * 1024,
)
# Nobody else has to be back before we publish; and a busy machine may take its time to confirm.
LIMITS = Limits(redis_settle=0.02, confirm=20, presence=2)


class Ear:
    """A subscriber that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Delivery] = []
        self.resyncs = 0
        self.sockets: dict[str, int] = {}
        self.elsewhere: set[str] = set()  # sessions nobody of whom is here
        self._changed = asyncio.Event()

    def deliver(self, delivery: Delivery) -> None:
        self.heard.append(delivery)
        self._changed.set()

    def resync(self) -> None:
        self.resyncs += 1

    def write(self) -> None:
        """Nothing waits."""

    def has(self, session: str) -> bool:
        return not session.startswith("~") and session not in self.elsewhere

    def has_any(self, sessions: Iterable[str]) -> bool:
        return any(map(self.has, sessions))

    def sockets_of(self, session: str) -> int:
        return self.sockets.get(session, 0)

    async def hears(self, count: int) -> list[Delivery]:
        """Wait until *count* were heard; return all."""
        while len(self.heard) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.heard


@dataclasses.dataclass
class Instance:
    """A broker, who listens to it, and what it counts."""

    broker: Broker
    ear: Ear
    metrics: Metrics

    async def publish(self, *postbacks: Postback) -> Receipt:
        """Publish *postbacks* together."""
        return await self.broker.publish(postbacks)

    async def read(self, session: str, after: Mark | None = None) -> Page:
        """Return a page of a mailbox that can be read."""
        page = await self.broker.mailbox.read(session, after)
        assert page is not None
        return page

    async def read_all(self, session: str) -> list[tuple[Mark, bytes]]:
        """Return all that the mailbox keeps, page by page, as a connection reads it."""
        page = await self.read(session, Mark("", 0))
        found: list[tuple[Mark, bytes]] = []
        while page.bodies:
            numbered = enumerate(page.bodies, start=page.first)
            found += [(page.at(number), body) for number, body in numbered]
            page = await self.read(session, found[-1][0])
        return found

    def script_errors(self) -> float:
        """Return how many calls Redis has refused."""
        shown = self.metrics.exposition().decode()
        found = re.search(r"^switchboard_script_errors_total (.*)$", shown, re.MULTILINE)
        assert found is not None
        return float(found[1])


@asynccontextmanager
async def instance(
    url: str | None, limits: Limits = LIMITS, **rules: int
) -> AsyncIterator[Instance]:
    """
    Run a broker within the context, on the Redis at *url* or, with None, in memory.

    *rules* are those of RULES that differ. It is ready: Redis, if there is one, has answered.
    """
    async with starting(url, limits, **rules) as here:
        await here.broker.mailbox.read("a session for a look", None)  # waits for Redis
        yield here


@asynccontextmanager
async def starting(
    url: str | None, limits: Limits = LIMITS, **rules: int
) -> AsyncIterator[Instance]:
    """Run a broker as `instance` does, without waiting for anybody."""
    ear, metrics = Ear(), Metrics("test")
    chosen = dataclasses.replace(RULES, **rules)
    broker: Broker
    if url is None:
        broker = MemoryBroker(chosen, limits)
    else:
        broker = RedisBroker(url, chosen, limits, metrics, verify=True)
    async with broker.listen(ear):
        yield Instance(broker, ear, metrics)


def postback(session: str, number: int, key: str = "", **more: Any) -> Postback:
    """Return a postback, of its own kind by *number*; that is its key, too, unless one is given."""
    body = json.encode({"to": session, "n": number, **more})
    return Postback(session, body, key or f"key {number}")


def sized(session: str, number: int, size: int) -> Postback:
    """Return a postback whose body has *size* bytes, not all of them characters of their own."""
    short = postback(session, number, text="é")
    pad = "x" * (size - len(short.body))
    return postback(session, number, text="é" + pad)
