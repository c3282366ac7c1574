"""A connection to Redis that is opened with a deadline and never mends itself unseen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import hiredis
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - what redis-py calls it
    InvalidResponse,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from switchboard_operator.limits import Limits

# What a broken link raises, or a Redis that can't be talked to; a TimeoutError is an OSError.
LINK_ERRORS = (RedisError, OSError)

Command = tuple[str | bytes | int, ...]
READ = 65536  # bytes at once

# hiredis's own types know of one argument only.
_packed: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # see above

_NOTHING = object()  # no whole reply is there yet
# A Redis that is still loading its data is none yet.
_ERRORS: dict[str, type[RedisError]] = {
    "LOADING": BusyLoadingError,
    "NOSCRIPT": NoScriptError,
    "READONLY": ReadOnlyError,
}


class Link:
    """
    One connection, used by one task.

    It reads and writes the connection's streams itself: redis-py takes a task for each write and a
    timer for each reply, which is most of what a postback would cost.
    """

    def __init__(self, connection: Connection, answer: float) -> None:
        """Talk over *connection*, which is open; the other end has *answer* seconds each time."""
        streams: Any = connection
        self._reader: asyncio.StreamReader = streams._reader
        self._writer: asyncio.StreamWriter = streams._writer
        self._answer = answer
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=_error, notEnoughData=_NOTHING
        )

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
        self._writer.write(b"".join([_packed(command) for command in commands]))
        async with asyncio.timeout(self._answer):
            await self._writer.drain()
        return [await self._next(self._answer) for _ in commands]

    async def next_message(self) -> list[Any]:
        """Wait for the next message of a subscription, however long. Raises one of LINK_ERRORS."""
        message: list[Any] = await self._next(None)
        return message

    async def _next(self, patience: float | None) -> Any:
        while (reply := self._replies.gets()) is _NOTHING:
            async with asyncio.timeout(patience):
                data = await self._reader.read(READ)
            if not data:
                raise ConnectionError("the link was closed")
            self._replies.feed(data)
        if isinstance(reply, ConnectionError):
            raise reply
        return reply


def _error(text: str) -> RedisError:
    """Return the exception that an error of Redis's stands for."""
    return _ERRORS.get(text.partition(" ")[0], ResponseError)(text)


OpenLink = Callable[[], AbstractAsyncContextManager[Link]]


def linker(url: str, limits: Limits, *, verify: bool) -> OpenLink:
    """
    Return what opens links to the Redis at *url*.

    A `rediss://` server must show a certificate for its name that is trusted, unless *verify* is
    off. A call that is not answered in time breaks its link; nothing is tried again here.
    """
    options: dict[str, Any] = dict(parse_url(url))
    make: type[Connection] = options.pop("connection_class", Connection)
    if url.startswith("rediss:") and not verify:
        options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}

    @asynccontextmanager
    async def open_link() -> AsyncIterator[Link]:
        connection = make(
            **options,
            protocol=2,
            driver_info=None,  # spares two calls, which servers before 7.2 refuse
            socket_connect_timeout=limits.redis_connect,
            socket_timeout=limits.redis_answer,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            await connection.connect()  # type: ignore[no-untyped-call] # redis-py lacks the type
            yield Link(connection, limits.redis_answer)
        finally:
            await connection.disconnect(nowait=True)

    return open_link
