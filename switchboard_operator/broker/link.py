"""A connection to Redis that is opened with a deadline and never mends itself unseen."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Never

import structlog
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from switchboard_operator.limits import Limits

# What a broken link raises, or a Redis that can't be talked to; a TimeoutError is an OSError.
LINK_ERRORS = (RedisError, OSError)
CANCEL_AGAIN = 0.1  # seconds
STEADY = 1.0  # seconds after which a link that works is worth a line in the log

Command = tuple[str | bytes | int, ...]

log = structlog.get_logger()


class Link:
    """One connection, used by one task."""

    def __init__(self, connection: Connection) -> None:
        """Talk over *connection*, which is open."""
        self._connection = connection

    async def call(self, *command: str | bytes | int) -> Any:
        """Send *command* and return the reply. Raises one of LINK_ERRORS."""
        await self._connection.send_command(*command, check_health=False)
        return await self._connection.read_response()

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """
        Send *commands* in one go and return their replies; what Redis refuses has its error there.

        Raises one of LINK_ERRORS if the link breaks.
        """
        packed = self._connection.pack_commands(commands)
        await self._connection.send_packed_command(packed, check_health=False)
        return [await self._reply() for _ in commands]

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as exc:
            return exc

    async def next_message(self) -> list[Any]:
        """Wait for the next message of a subscription, however long. Raises one of LINK_ERRORS."""
        message: list[Any] = await self._connection.read_response(timeout=math.inf)
        return message


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
            yield Link(connection)
        finally:
            await connection.disconnect(nowait=True)

    return open_link


class Reconnector:
    """
    Uses one link after the other, for ever, and knows whether the one at hand works.

    *name* says what the links are for, in the log. Each outage is told once, and its end when a
    link has held for a moment: links that break again and again are one outage.
    """

    def __init__(self, name: str, open_link: OpenLink, limits: Limits) -> None:
        """Open links by *open_link*."""
        self.up = False
        self._name = name
        self._open_link = open_link
        self._pause = limits.redis_pause
        self._missed = False
        self._steady: asyncio.TimerHandle | None = None

    async def run(self, use: Callable[[Link], Awaitable[Never]]) -> Never:
        """Call *use* with a link, and with another one whenever that breaks."""
        while True:
            try:
                async with self._open_link() as link:
                    await use(link)
            except LINK_ERRORS as exc:
                self._tell_missed(exc)
            finally:
                self.up = False
                if self._steady is not None:
                    self._steady.cancel()
            # An outage costs next to nothing, its end is seen soon, instances don't come in step.
            await asyncio.sleep(random.uniform(self._pause / 5, self._pause))  # noqa: S311 - jitter

    def works(self) -> None:
        """Note that the link at hand works."""
        self.up = True
        self._steady = asyncio.get_running_loop().call_later(STEADY, self._tell_up)

    def _tell_up(self) -> None:
        self._missed = False
        log.info("redis is there", use=self._name)

    def _tell_missed(self, error: Exception) -> None:
        if not self._missed:
            self._missed = True
            # The text of an error may quote the URL, and with it a password.
            log.warning("redis is missed", use=self._name, error=type(error).__name__)


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* until they have ended: redis-py's use of `wait_for` may swallow it once."""
    running: Collection[asyncio.Task[Any]] = [task for task in tasks if not task.done()]
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN)
