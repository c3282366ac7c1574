"""What the switchboard asks of a broker, whichever it is."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from switchboard_operator import marks, replay
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery, Postback


class Subscriber(Protocol):
    """Who listens to a broker."""

    def deliver(self, delivery: Delivery) -> None:
        """Take a postback that was published; perhaps others follow before `write`."""

    def write(self) -> None:
        """Write what was delivered, since no more comes for now."""

    def resync(self) -> None:
        """Note that postbacks may have gone unheard before now."""

    def has(self, session: str) -> bool:
        """Tell whether postbacks to *session* need be delivered here."""

    def has_any(self, sessions: Iterable[str]) -> bool:
        """Tell whether `has` is true of any of *sessions*."""

    def sockets_of(self, session: str) -> int:
        """Return how many sockets of *session* are here."""


class Receipt(msgspec.Struct, frozen=True):  # made for each postback: a dataclass takes longer
    """
    What became of a publication.

    `confirmed`: every instance that is listening has it, and the mailbox too. Not confirmed: it is
    held and will be published later. `ids` are those of the postbacks, "" of one that has none;
    `repeated` says that all was published before.
    """

    confirmed: bool
    ids: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def marks(self) -> tuple[Mark | None, ...]:
        """Return the ids as marks."""
        return tuple(map(marks.ours, self.ids))


class Published(Protocol):
    """What becomes of postbacks that were put: a future is one."""

    def done(self) -> bool:
        """Tell whether it is known."""

    def result(self) -> Receipt:
        """Return it, once it is known."""

    def add_done_callback(self, tell: Callable[[Any], object], /) -> None:
        """Have *tell* called with this when it is known: at once, or in the loop's next turn."""

    def __await__(self) -> Generator[Any, None, Receipt]:
        """Wait until it is known."""


@dataclass(frozen=True, slots=True)
class Health:
    """
    How a broker is doing.

    `redis`: whether Redis answers, None if there is none. `listening`: whether what is published
    reaches this instance.
    """

    redis: bool | None
    listening: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """
    Whether this instance may post a session's messages, and what became of the one in question.

    `outcome` is None if that is not known.
    """

    granted: bool
    outcome: str | None = None


class Leases(Protocol):
    """Sees to it that one instance at a time posts a session's messages, and none twice."""

    async def claim(self, session: str, cid: str) -> Claim:
        """Take the session's lease, or renew it, and look up what became of *cid*."""

    def hold(self, session: str) -> None:
        """Take the session's lease if nobody has it, without waiting for an answer."""

    def settle(self, session: str, cid: str, outcome: str) -> None:
        """Keep what became of *cid*."""

    def release(self, session: str) -> None:
        """Give the session's lease up, after all that was settled."""


class Mailbox(replay.Mailbox, Protocol):
    """Keeps the latest postbacks of each session, and how far its user has proven to have them."""

    async def erase(self, session: str) -> None:
        """Forget all of *session*. Raises BrokerUnavailable."""


class Broker(Protocol):
    """Takes postbacks on any instance and hands them to every instance."""

    @property
    def mailbox(self) -> Mailbox:
        """Return the mailbox that is joined to it."""

    @property
    def leases(self) -> Leases:
        """Return the leases that instances joined by it agree on."""

    def listen(self, subscriber: Subscriber) -> AbstractAsyncContextManager[None]:
        """Tell *subscriber* of each postback published anywhere, in order, within the context."""

    def put(self, postbacks: Sequence[Postback]) -> Published:
        """
        Queue *postbacks* in order, all or none; what is returned is done when all are confirmed.

        That may be long after; they are published whether anybody waits for it or not.

        Raises:
            BrokerFull: there is no room for them.
        """

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Put *postbacks*, and wait a while until they are confirmed. Raises BrokerFull."""

    async def sockets(self, session: str) -> int:
        """Return how many sockets of *session* there are on all instances."""

    async def flush(self) -> None:
        """Wait until nothing is held."""

    def health(self) -> Health:
        """Tell how the broker is doing, without asking anybody."""
