"""What a session has said and is not settled: a queue with a bound that readers wait for."""

import asyncio
from collections import deque
from operator import itemgetter

from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage


class SessionQueue:
    """
    Messages of one session in their order; the head is under way.

    It takes whatever was read, also when it is full: the bound is for reading on.
    """

    def __init__(self, limits: Limits) -> None:
        """Be full as *limits* say."""
        self.progress = 0.0  # the loop's time when the Concierge last accepted one
        self._limits = limits
        self._messages: deque[UserMessage] = deque()
        self._bytes = 0
        self._waiters: list[tuple[float, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._messages)

    @property
    def head(self) -> UserMessage:
        """Return the oldest message."""
        return self._messages[0]

    @property
    def full(self) -> bool:
        """Tell whether as much waits as may."""
        parked = len(self._messages) - self._limits.uplink_queue
        return parked >= self._limits.parked_frames or (
            parked > 0 and self._bytes >= self._limits.parked_bytes
        )

    def put(self, message: UserMessage) -> None:
        """Append *message*."""
        self._messages.append(message)
        self._bytes += len(message.body)

    def pop(self) -> None:
        """Drop the head, which is settled, and let those who wait for room look."""
        self._bytes -= len(self._messages.popleft().body)
        if not self.full:
            for _, waiter in sorted(self._waiters, key=itemgetter(0)):  # they go on in this order
                if not waiter.done():
                    waiter.set_result(None)

    async def room(self, since: float) -> None:
        """
        Wait for room.

        Of several that wait, the one whose *since* is least goes on first: what a user said on an
        old socket comes before what they say on the next.
        """
        waiter = (since, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter[1]
        finally:
            self._waiters.remove(waiter)
