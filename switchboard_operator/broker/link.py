"""A connection to Redis that never mends itself unseen."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Never, TypeVar

from redis.exceptions import (
    ConnectionError,  # noqa: A004 - what redis-py calls it
    InvalidResponse,
    RedisError,
    ResponseError,
)

from switchboard_operator.broker import resp
from switchboard_operator.broker.patience import Patience
from switchboard_operator.broker.resp import NOTHING, Command

_T = TypeVar("_T")

# What a broken link raises, or a Redis that can't be talked to; a TimeoutError is an OSError.
LINK_ERRORS = (RedisError, OSError)

# Takes the replies to a call.
TakeReplies = Callable[[list[Any]], None]
_Call = tuple[int, TakeReplies]  # how many replies it has, and who takes them
# Takes the channel and the data of a message; returns whether others should have a turn before the
# next one.
Take = Callable[[bytes, bytes], bool]


def _settle(waiter: asyncio.Future[list[Any]], replies: list[Any]) -> None:
    if not waiter.done():
        waiter.set_result(replies)


def _nothing() -> None:
    """Do nothing."""


def _at_once() -> float:
    """Let what comes next be read at once."""
    return 0.0


class Link(asyncio.Protocol):
    """
    One connection, used by one task: for calls, and then perhaps to listen.

    It is its transport's protocol, so that replies and messages wake nobody one by one: redis-py
    takes a task for each write and a timer for each reply, which is most of what a postback would
    cost.
    """

    def __init__(self, transport: asyncio.Transport, answer: float) -> None:
        """Take over *transport*; during a call *answer* seconds may pass in which nothing comes."""
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._patience = Patience(answer, self._lose_patience)
        self._reader = resp.reader()
        self._calls: deque[_Call] = deque()  # under way, the oldest first …
        self._got: list[Any] = []  # … and what has come of its replies
        self._take: Take | None = None
        self._taken: Callable[[], float]
        self._resting = False  # messages that are there, or to come, wait a while
        self._lull = 0.0  # seconds for which there is no hurry to read more of them
        self._waiter: asyncio.Future[Any] | None = None
        self.broken: Callable[[], None] = _nothing  # told when the link has broken
        self._broken: Exception | None = None
        transport.set_protocol(self)

    async def call(self, *command: str | bytes | int) -> Any:
        """Send *command* and return the reply. Raises one of LINK_ERRORS."""
        [reply] = await self.pipeline([command])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """
        Send *commands* in one go and return their replies; what Redis refuses has its error there.

        Raises one of LINK_ERRORS if the link breaks.
        """
        self._refuse_unasked()
        return await self._replies(commands)

    async def subscribe(self, *channels: str) -> None:
        """
        Listen to all *channels* from one moment on.

        Raises ResponseError if Redis refuses one of them, else one of LINK_ERRORS.
        """
        await self.call("SUBSCRIBE", *channels)
        # Each has a reply of its own, but if it is refused.
        await self._replies([b""] * (len(channels) - 1))

    async def _replies(self, commands: Sequence[Command]) -> list[Any]:
        waiter = self._wait()
        self._begin(commands, partial(_settle, waiter))
        self._read()  # they may be there
        replies: list[Any] = await self._result(waiter)
        for reply in replies:
            if isinstance(reply, ConnectionError):
                raise reply
        return replies

    def send(self, commands: Sequence[Command], take: TakeReplies) -> None:
        """
        Send *commands* as `pipeline` does, but let *take* have their replies, without a task.

        Several may be under way. If the link breaks, or is broken, *take* is not called: `broken`
        is.
        """
        self._refuse_unasked()
        if self._broken is None:
            self._begin(commands, take)
        else:
            self.broken()

    def check(self) -> None:
        """Raise what has broken the link, if it is broken."""
        if self._broken is not None:
            raise self._broken

    def _begin(self, commands: Sequence[Command], take: TakeReplies) -> None:
        self._calls.append((len(commands), take))
        self._patience.start()
        self._transport.write(b"".join([resp.packed(command) for command in commands]))

    async def listen(self, take: Take, taken: Callable[[], float] = _at_once) -> Never:
        """
        Give *take* the channel and the data of each message of a subscription, for ever.

        *taken* is called when all that has come is taken, and before others have their turn; it
        returns for how many seconds nothing more need be read.

        Raises one of LINK_ERRORS if the link breaks, or what *take* raises.
        """
        waiter: asyncio.Future[Never] = self._wait()
        self._take, self._taken = take, taken
        self._read()  # what came behind the last reply
        await self._result(waiter)

    def _refuse_unasked(self) -> None:
        """End the link if a reply is there before a call: it would pass for the call's own."""
        try:
            if not self._calls and self._reader.gets() is not NOTHING:
                self._break(InvalidResponse("a reply to nothing"))
        except InvalidResponse as exc:
            self._break(exc)

    def _wait(self) -> asyncio.Future[Any]:
        self.check()
        self._waiter = self._loop.create_future()
        return self._waiter

    async def _result(self, waiter: asyncio.Future[_T]) -> _T:
        try:
            return await waiter
        except asyncio.CancelledError:
            self.close()  # nobody would know whose the replies are that are still to come
            raise

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._broken is None:
            self._patience.renew()
            self._reader.feed(data)
            self._read()
            if self._lull and not self._resting and self._broken is None:
                self._rest(self._lull)

    def resume_writing(self) -> None:
        """Note that the other end takes what is sent."""
        self._patience.renew()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._break(exc if isinstance(exc, OSError) else ConnectionError("the link was closed"))

    def close(self) -> None:
        """End it, whatever is under way."""
        self._break(ConnectionError("the link is closed"))

    def _lose_patience(self) -> None:
        self._break(TimeoutError("no answer"))

    def _break(self, error: Exception) -> None:
        if self._broken is not None:
            return
        self._broken = error
        self._patience.stop()
        self._transport.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.broken()

    def _read(self) -> None:
        """Take what is there, as far as anybody waits for it."""
        try:
            if self._take is not None:
                self._read_messages(self._take)
            else:
                self._read_replies()
        except Exception as exc:  # not Redis's own: a bug, which ends the task that waits
            self._break(exc)

    def _read_replies(self) -> None:
        gets = self._reader.gets
        while self._calls:
            due, take = self._calls[0]
            while len(self._got) < due:
                reply = gets()
                if reply is NOTHING:
                    return
                self._got.append(reply)
            self._calls.popleft()
            if not self._calls:
                self._patience.stop()
            got, self._got = self._got, []
            take(got)

    def _read_messages(self, take: Take) -> None:
        gets = self._reader.gets
        try:
            while not self._resting:
                message = gets()
                if message is NOTHING:
                    return
                if isinstance(message, RedisError):
                    raise message
                if take(message[1], message[2]):
                    self._rest(0.0)
        finally:
            self._lull = self._taken()

    def _rest(self, seconds: float) -> None:
        self._resting = True
        self._transport.pause_reading()
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if self._broken is None:
            self._read()
        if self._broken is None and not self._resting:
            self._transport.resume_reading()
