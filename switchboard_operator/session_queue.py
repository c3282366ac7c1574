"""What a session has said and is not settled: a queue with a bound that readers wait for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Protocol

from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage


class Sender(Protocol):
    """Who is told what became of a message."""

    def settled(self, cid: str, code: str | None, *, retry: bool) -> None:
        """Note that *cid* was accepted or, with a *code*, not; *retry*: send it again."""


@dataclass(slots=True, eq=False)
class Item:
    """A message, and who has sent it: more than one if a client came back and sent it again."""

    message: UserMessage
    senders: list[Sender] = field(default_factory=list)


class SessionQueue:
    """
    Messages of one session in their order; the head is under way.

    It takes whatever was read, also when it is full: the bound is for reading on.
    """

    def __init__(self, limits: Limits) -> None:
        """Be full as *limits* say."""
        self.progress = 0.0  # the loop's time when the Concierge last accepted one
        self._limits = limits
        self._items: dict[str, Item] = {}  # by the message's key, in their order
        self._bytes = 0
        self._waiters: list[tuple[float, Callable[[], None]]] = []

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._items)

    @property
    def head(self) -> Item:
        """Return the oldest message."""
        return next(iter(self._items.values()))

    @property
    def full(self) -> bool:
        """Tell whether as much waits as may."""
        parked = len(self._items) - self._limits.uplink_queue
        return parked >= self._limits.parked_frames or (
            parked > 0 and self._bytes >= self._limits.parked_bytes
        )

    def put(self, message: UserMessage, sender: Sender | None) -> None:
        """Append *message*, unless it is there already: then *sender* waits for it, too."""
        item = self._items.get(message.key)
        if item is None:
            item = self._items[message.key] = Item(message)
            self._bytes += len(message.body)
        if sender is not None and sender not in item.senders:
            item.senders.append(sender)

    def followers(self, item: Item) -> list[Item]:
        """
        Return what came after *item*, the head, from clients that can send it again.

        Also from other sockets: one of them may be the same client's, before it came back.
        """
        if not item.senders:
            return []
        return [other for other in self._items.values() if other is not item and other.senders]

    def remove(self, item: Item) -> None:
        """Drop *item*, which is settled, and let those who wait for room look."""
        del self._items[item.message.key]
        self._bytes -= len(item.message.body)
        if self._waiters and not self.full:
            loop, waiters, self._waiters = asyncio.get_running_loop(), self._waiters, []
            for _, go_on in sorted(waiters, key=itemgetter(0)):
                loop.call_soon(go_on)

    def when_room(self, since: float, go_on: Callable[[], None]) -> None:
        """
        Call *go_on* when there is room again.

        Of several that wait, the one whose *since* is least goes on first: what a user said on an
        old socket comes before what they say on the next.
        """
        self._waiters.append((since, go_on))
