"""Where a socket's messages wait while its session's queue is full or it is ahead of its pace."""

import asyncio
from collections import deque

from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.uplink import Uplink


class Parking:
    """
    Hands a socket's messages to the uplink in their order; those that must wait are parked.

    The reader may go on meanwhile, for control frames, until there is no room left either.
    """

    def __init__(self, uplink: Uplink, limits: Limits) -> None:
        """Hand messages to *uplink*, park within *limits*."""
        self._uplink = uplink
        self._limits = limits
        self._parked: deque[UserMessage] = deque()
        self._bytes = 0
        self._feeder: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    @property
    def full(self) -> bool:
        """Tell whether the reader must stop."""
        frames_full = len(self._parked) >= self._limits.parked_frames
        return frames_full or self._bytes >= self._limits.parked_bytes

    def put(self, message: UserMessage) -> None:
        """Hand *message* over, or park it behind those that wait already."""
        if not self._parked and self._uplink.offer(message):
            return
        self._parked.append(message)
        self._bytes += len(message.body)
        if self._feeder is None:
            self._feeder = asyncio.create_task(self._feed())

    async def room(self) -> None:
        """Wait until there is room."""
        while self.full:
            self._moved.clear()
            await self._moved.wait()

    async def emptied(self) -> None:
        """Wait until everything parked has been handed over: the user said it, so it counts."""
        if self._feeder is not None:
            await self._feeder

    async def _feed(self) -> None:
        while self._parked:
            await self._uplink.accept(self._parked[0])
            self._bytes -= len(self._parked.popleft().body)
            self._moved.set()
        self._feeder = None
