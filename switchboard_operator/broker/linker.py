"""Open links to a Redis, each with a deadline."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from switchboard_operator.broker.link import Link
from switchboard_operator.limits import Limits

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
            link = Link(_transport(connection), limits.redis_answer)
            try:
                yield link
            finally:
                link.close()
        finally:
            await connection.disconnect(nowait=True)

    return open_link


def _transport(connection: Any) -> Any:
    """Return what *connection* talks over; its own calls are answered, so nothing is left there."""
    return connection._writer.transport
