"""Compose the application from its parts, serve it, and take it down without losing anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from aiohttp import web

from switchboard_operator import __version__, frames, logs
from switchboard_operator.broker.base import Broker
from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.broker.redis import RedisBroker
from switchboard_operator.concierge import Concierge, client_session
from switchboard_operator.connections import Connections
from switchboard_operator.downlink import Downlink
from switchboard_operator.errors import AddressUnavailable
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics
from switchboard_operator.pace import Pace
from switchboard_operator.settings import Settings
from switchboard_operator.uplink import Uplink
from switchboard_operator.web import chat, errors, keys, pages, postback
from switchboard_operator.web.admission import Admission
from switchboard_operator.web.assets import Assets

DRAIN_TICK = 0.02  # seconds between two closings
WEB_CLIENT = Path(__file__).parent.parent / "web_client"

ROUTES = [
    route(path, handler, expect_handler=errors.expect)
    for route, path, handler in (
        (web.get, "/", chat.chat_or_index),
        (web.post, "/", postback.postback),
        (web.get, "/live", pages.live),
        (web.get, "/ready", pages.ready),
        (web.get, "/metrics", pages.metrics),
        (web.get, "/chat", pages.chat_page),
        (web.get, "/widget/{name:.+}", pages.widget_file),
    )
]

log = structlog.get_logger()


def create_app(settings: Settings, limits: Limits | None = None) -> web.Application:
    """Return the application; what it holds open is opened and closed with it."""
    logs.tame_libraries()
    limits = limits or Limits()
    app = web.Application(middlewares=[errors.as_json], client_max_size=limits.array_bytes)
    app[keys.SETTINGS] = settings
    app[keys.LIMITS] = limits
    app[keys.METRICS] = Metrics(__version__)
    app[keys.ADMISSION] = Admission(settings)
    app[keys.ASSETS] = Assets(WEB_CLIENT)
    app[keys.BROKER] = _broker(settings, limits, app[keys.METRICS])
    app.cleanup_ctx.append(_lines)
    app.add_routes(ROUTES)
    return app


def _broker(settings: Settings, limits: Limits, metrics: Metrics) -> Broker:
    if not settings.rediscloud_url:
        return MemoryBroker()
    return RedisBroker(settings.rediscloud_url, limits, metrics, verify=settings.redis_tls_verify)


async def _lines(app: web.Application) -> AsyncIterator[None]:
    """Set up the two lines, and the table in which they meet, while the application runs."""
    settings, limits, metrics = app[keys.SETTINGS], app[keys.LIMITS], app[keys.METRICS]
    connections = app[keys.CONNECTIONS] = Connections(limits)
    app[keys.DRAINING] = asyncio.Event()
    async with client_session(settings.concierge_concurrency) as session:
        concierge = app[keys.CONCIERGE] = Concierge(session, settings, limits, metrics)
        pace = Pace(settings.rate_limit, limits.rate_burst)
        uplink = Uplink(concierge, pace, settings.concierge_concurrency, limits, metrics)
        app[keys.UPLINK] = uplink
        metrics.connections.labels(frames.CLASSIC).set_function(lambda: len(connections))
        metrics.outbox_frames.set_function(connections.waiting_frames)
        metrics.uplink_queued.set_function(lambda: uplink.queued)
        async with app[keys.BROKER].listen(Downlink(connections, metrics).deliver):
            yield


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """
    Serve *app* within the context, which gets its URL; *port* 0 takes a free one.

    At its end everything that was accepted is delivered, as far as the time for it allows.

    Raises:
        AddressUnavailable: nothing can listen there.
    """
    limits = app[keys.LIMITS]
    runner = web.AppRunner(
        app,
        access_log=None,  # it costs half the throughput and would show query strings
        auto_decompress=False,  # a signature covers the bytes as sent
        keepalive_timeout=limits.keep_alive,
        shutdown_timeout=limits.clean_up,
    )
    await runner.setup()
    try:
        yield await _listen(runner, host, port)
        await drain(app)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    """Start to listen; return a URL that works on this machine."""
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError as exc:
        raise AddressUnavailable(f"can't listen on {host}, port {port}: {exc.strerror}") from exc
    bound = runner.addresses[0]
    shown = "127.0.0.1" if bound[0] in {"0.0.0.0", "::"} else bound[0]  # noqa: S104 - compared, not bound
    return f"http://{shown}:{bound[1]}"


async def drain(app: web.Application) -> None:
    """
    Bring both lines to rest: no new sockets, every socket closed, every message posted.

    Ends when that is done, or when the time for it is up, whatever a client or the Concierge does.
    """
    connections, uplink, limits = app[keys.CONNECTIONS], app[keys.UPLINK], app[keys.LIMITS]
    app[keys.DRAINING].set()
    log.info("draining", sockets=len(connections), messages=uplink.queued)
    with suppress(TimeoutError):
        async with asyncio.timeout(limits.shutdown):
            uplink.hurry()
            await asyncio.sleep(app[keys.SETTINGS].pre_drain_seconds)
            await _close_all(connections, app[keys.SETTINGS].drain_seconds)
            await connections.emptied()
            await uplink.emptied()
            await app[keys.BROKER].flush()
    for connection in connections:
        connection.abort()
    if lost := await uplink.abandon():
        log.error("messages not delivered before the end", messages=lost)


async def _close_all(connections: Connections, seconds: float) -> None:
    """Close every connection, spread over *seconds*, so that clients don't return in one wave."""
    left = list(connections)
    ticks = max(1, round(seconds / DRAIN_TICK))
    share = -(-len(left) // ticks)
    while left:
        for connection in left[:share]:
            connection.close(frames.RESTART)
        del left[:share]
        if left:
            await asyncio.sleep(seconds / ticks)
