"""The link for all but publishing and listening: calls go out in batches, in order."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Never

from redis.exceptions import ResponseError

from switchboard_operator.broker import scripts
from switchboard_operator.broker.alarm import Alarm
from switchboard_operator.broker.link import Link
from switchboard_operator.broker.linker import OpenLink
from switchboard_operator.broker.reconnector import Reconnector
from switchboard_operator.broker.resp import Command
from switchboard_operator.errors import BrokerUnavailable
from switchboard_operator.limits import Limits

MOST = 50  # calls in a batch
FEW = 1000  # calls that may wait before those that nobody waits for are looked for


@dataclass(slots=True, eq=False)
class _Call:
    command: Command
    reply: asyncio.Future[Any]
    patient: bool


class Calls:
    """
    Calls to Redis, many on one link.

    A *patient* call waits for Redis if it is away, and is made again if its answer gets lost; any
    other fails at once. Calls bear being made twice.
    """

    def __init__(self, open_link: OpenLink, limits: Limits) -> None:
        """Call over links from *open_link*."""
        self._links = Reconnector("calls", open_link, limits)
        self._loop: asyncio.AbstractEventLoop | None = None  # looked up once
        self._queue: deque[_Call] = deque()
        self._sweep_at = FEW
        self._alarm = Alarm(limits.probe_every)

    @property
    def up(self) -> bool:
        """Tell whether Redis answered the last call."""
        return self._links.up

    def put(self, command: Command, *, patient: bool = False) -> asyncio.Future[Any]:
        """
        Make a call behind those before it; the future has its reply.

        Its exception is BrokerUnavailable, or a ResponseError if Redis refuses the call.
        """
        self._loop = self._loop or asyncio.get_running_loop()
        reply: asyncio.Future[Any] = self._loop.create_future()
        reply.add_done_callback(_look_at)
        call = _Call(command, reply, patient)
        if patient or self._links.up:
            self._queue.append(call)
            self._sweep()
            self._alarm.ring()
        else:
            _fail(call)
        return reply

    async def ask(self, command: Command) -> Any:
        """Make a call and return its reply. Raises BrokerUnavailable, whatever is the matter."""
        try:
            return await self.put(command)
        except ResponseError as exc:
            raise BrokerUnavailable from exc

    def tell(self, command: Command) -> None:
        """Make a call whose reply nobody needs."""
        self.put(command).cancelled()

    async def run(self) -> Never:
        """Make what calls are put, over one link after the other."""
        await self._links.run(self._call_on)

    async def _call_on(self, link: Link) -> Never:
        try:
            await link.call("PING")
            self._links.works()
            while True:
                await self._woken(link)
                if batch := self._batch():
                    self._settle(batch, await self._replies(link, batch))
        finally:
            self._give_up()

    async def _woken(self, link: Link) -> None:
        """Wait for a call; make one now and then, since an idle link is not known to work."""
        while not self._queue:
            await self._alarm.sleep()
            if not self._queue:
                await link.call("PING")

    def _batch(self) -> list[_Call]:
        batch: list[_Call] = []
        while self._queue and len(batch) < MOST:
            call = self._queue.popleft()
            if not call.reply.done():  # nobody has lost interest meanwhile
                batch.append(call)
        return batch

    async def _replies(self, link: Link, batch: Sequence[_Call]) -> list[Any]:
        try:
            replies = await scripts.run(link, [call.command for call in batch])
            # A replica takes no writes, but the next link may lead to the master.
            scripts.raise_read_only(replies)
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        return replies

    def _settle(self, batch: Sequence[_Call], replies: Sequence[Any]) -> None:
        for call, reply in zip(batch, replies, strict=True):
            if call.reply.done():
                continue
            if isinstance(reply, ResponseError):
                call.reply.set_exception(reply)
            else:
                call.reply.set_result(reply)

    def _sweep(self) -> None:
        """Forget calls that nobody waits for, so that they don't pile up in an outage."""
        if len(self._queue) > self._sweep_at:
            self._queue = deque(call for call in self._queue if not call.reply.done())
            self._sweep_at = max(FEW, 2 * len(self._queue))

    def _give_up(self) -> None:
        """Fail the calls that can't wait for the next link."""
        for call in self._queue:
            if not call.patient:
                _fail(call)
        self._queue = deque(call for call in self._queue if call.patient)


def _fail(call: _Call) -> None:
    if not call.reply.done():
        call.reply.set_exception(BrokerUnavailable())


def _look_at(reply: asyncio.Future[Any]) -> None:
    """See the exception of a call whose caller does not wait for it."""
    if not reply.cancelled():
        reply.exception()
