"""What the switchboard asks of a broker, whichever it is."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from switchboard_operator.messages import Postback

Deliver = Callable[[Postback], None]


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What became of a publication.

    `confirmed`: every instance that is listening has it. Not confirmed: it is held and will be
    published later.
    """

    confirmed: bool


@dataclass(frozen=True, slots=True)
class Health:
    """
    How a broker is doing.

    `redis`: whether Redis answers, None if there is none. `listening`: whether what is published
    reaches this instance.
    """

    redis: bool | None
    listening: bool


class Broker(Protocol):
    """Takes postbacks on any instance and hands them to every instance."""

    def listen(self, deliver: Deliver) -> AbstractAsyncContextManager[None]:
        """Call *deliver* with each postback published anywhere, in order, within the context."""

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        """Publish *postbacks* in order, all or none. Raises BrokerFull if there is no room."""

    async def flush(self) -> None:
        """Wait until nothing is held."""

    def health(self) -> Health:
        """Tell how the broker is doing, without asking anybody."""
