"""Take the application down without losing anything, whatever a client or the Concierge does."""

import asyncio
from contextlib import suppress

import structlog
from aiohttp import web

from switchboard_operator import frames
from switchboard_operator.connections import Connections
from switchboard_operator.web import keys

TICK = 0.01  # seconds; closings that are due within are done together

log = structlog.get_logger()


async def drain(app: web.Application) -> None:
    """
    Bring both lines to rest: no new sockets, every socket closed, every message posted.

    Ends when that is done, or when the time for it is up.
    """
    connections, uplink, settings = app[keys.CONNECTIONS], app[keys.UPLINK], app[keys.SETTINGS]
    app[keys.DRAINING].set()
    log.info("draining", sockets=len(connections), messages=uplink.queued)
    with suppress(TimeoutError):
        async with asyncio.timeout(app[keys.LIMITS].shutdown):
            await asyncio.sleep(settings.pre_drain_seconds)
            uplink.stop_retrying()
            await _close_all(connections, settings.drain_seconds)
            await connections.emptied()
            await uplink.emptied()
            await app[keys.BROKER].flush()
    for connection in connections:
        connection.abort()


async def _close_all(connections: Connections, seconds: float) -> None:
    """Close every connection, spread over *seconds*, so that clients don't return in one wave."""
    loop, due = asyncio.get_running_loop(), list(connections)
    began = loop.time()
    for number, connection in enumerate(due):
        wait = began + seconds * number / len(due) - loop.time()
        if wait > TICK:
            await asyncio.sleep(wait)
        connection.close(frames.RESTART, receipt=True)
