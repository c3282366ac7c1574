"""Compose the application from its parts, and serve it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import structlog
from aiohttp import ClientSession, web
from yarl import URL

from switchboard_operator import __version__, frames, logs, server_frames_v1
from switchboard_operator.aliases import Aliases
from switchboard_operator.broker.base import Broker
from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.broker.redis import RedisBroker
from switchboard_operator.concierge import Concierge, client_session
from switchboard_operator.connections import Connections
from switchboard_operator.delivery_sample import DeliverySample
from switchboard_operator.downlink import Downlink
from switchboard_operator.errors import AddressUnavailable
from switchboard_operator.feedback import Feedback
from switchboard_operator.limits import Limits
from switchboard_operator.logs import Occasions
from switchboard_operator.loop_lag import LoopLag
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings
from switchboard_operator.shutdown import drain
from switchboard_operator.spans import TracedMailbox, Tracer
from switchboard_operator.tokens import Tokens
from switchboard_operator.tracing import TracedBroker, TracedConcierge
from switchboard_operator.turns import Turns
from switchboard_operator.uplink import Uplink
from switchboard_operator.web import chat, errors, keys, pages, postback, session
from switchboard_operator.web.admission import Admission
from switchboard_operator.web.assets import Assets
from switchboard_operator.web.doorsteps import Doorsteps
from switchboard_operator.web.websocket import FrameReaders

UNSEEN = "Future exception was never retrieved"  # asyncio's words
BACKLOG = 128  # connections that the kernel keeps until they are accepted
WEB_CLIENT = Path(__file__).parent.parent / "web_client"

ROUTES = [
    route(path, handler, expect_handler=errors.expect)
    for route, path, handler in (
        (web.get, "/", chat.chat_or_index),
        (web.post, "/", postback.postback),
        (web.get, "/sessions/{session:.+}", session.state),
        (web.delete, "/sessions/{session:.+}", session.erase),
        (web.get, "/live", pages.live),
        (web.get, "/ready", pages.ready),
        (web.get, "/metrics", pages.metrics),
        (web.get, "/chat", pages.chat_page),
        (web.get, "/widget/{name:.+}", pages.widget_file),
    )
]

log = structlog.get_logger()


def create_app(
    settings: Settings,
    limits: Limits | None = None,
    *,
    folder: Path | None = None,
    tracer: Tracer | None = None,
) -> web.Application:
    """
    Return the application; what it holds open is opened and closed with it.

    The files of *folder* are served beside those of the web client, or in place of them. *tracer*
    gets a span for each message.
    """
    logs.tame_libraries()
    limits = limits or Limits()
    app = web.Application(middlewares=[errors.as_json], client_max_size=limits.array_bytes)
    app[keys.SETTINGS] = settings
    app[keys.LIMITS] = limits
    app[keys.METRICS] = Metrics(__version__)
    app[keys.DELIVERY_SAMPLE] = DeliverySample(app[keys.METRICS], limits.sample)
    app[keys.TOKENS] = Tokens(settings.switchboard_secret_key, settings.session_lifetime)
    app[keys.ALIASES] = Aliases(settings.switchboard_secret_key)
    app[keys.ADMISSION] = Admission(settings)
    app[keys.OCCASIONS] = Occasions(limits.log_interval)
    app[keys.ASSETS] = Assets(WEB_CLIENT, *([] if folder is None else [folder]))
    app[keys.BROKER] = _broker(settings, limits, app[keys.METRICS])
    app[keys.MAILBOX] = app[keys.BROKER].mailbox
    if tracer is not None:
        aliases, confirm = app[keys.ALIASES], limits.confirm
        app[keys.TRACER] = tracer
        app[keys.BROKER] = TracedBroker(app[keys.BROKER], tracer, aliases, confirm=confirm)
        app[keys.MAILBOX] = TracedMailbox(app[keys.MAILBOX], tracer, aliases)
    app.cleanup_ctx.append(_lines)
    app.add_routes(ROUTES)
    return app


def _broker(settings: Settings, limits: Limits, metrics: Metrics) -> Broker:
    rules = MailboxRules(
        size=settings.mailbox_size,
        lifetime=settings.mailbox_ttl,
        state_lifetime=settings.session_lifetime,
        once_lifetime=limits.once_lifetime,
        most_bytes=limits.mailbox_bytes,
        page=limits.page,
        page_bytes=limits.page_bytes,
    )
    if not settings.rediscloud_url:
        metrics.listener_up.set(1)  # nothing lies in between that could fail
        return MemoryBroker(rules, limits)
    url, verify = settings.rediscloud_url, settings.redis_tls_verify
    return RedisBroker(url, rules, limits, metrics, verify=verify)


async def _lines(app: web.Application) -> AsyncIterator[None]:
    """Set up the two lines, and the table in which they meet, while the application runs."""
    settings, limits, metrics = app[keys.SETTINGS], app[keys.LIMITS], app[keys.METRICS]
    connections = app[keys.CONNECTIONS] = Connections(limits)
    broker = app[keys.BROKER]
    app[keys.DRAINING] = asyncio.Event()
    app[keys.STARTED] = time.monotonic()
    app[keys.FRAME_READERS] = FrameReaders(settings.max_message_bytes)
    sample = app[keys.DELIVERY_SAMPLE]
    sample.is_here = connections.has
    async with client_session(settings.concierge_concurrency) as session:
        concierge = app[keys.CONCIERGE] = _concierge(app, session)
        lag = LoopLag(limits.lag_every, limits.lag_window)
        with Turns(metrics, limits.unanswered) as turns, lag:
            reply, every = settings.offline_reply, limits.offline_every
            feedback = Feedback(connections, broker, turns, reply, every)
            uplink = Uplink(concierge, broker.leases, feedback, settings, limits, metrics)
            app[keys.UPLINK] = uplink
            downlink = Downlink(connections, turns, sample, metrics)
            _show(metrics, connections, uplink, lag)
            async with uplink, broker.listen(downlink):
                yield


def _show(metrics: Metrics, connections: Connections, uplink: Uplink, lag: LoopLag) -> None:
    """Have *metrics* look at the others when they are asked for."""
    for wire in (frames.CLASSIC, server_frames_v1.V1):
        metrics.connections.labels(wire.name).set_function(partial(connections.count, wire))
    metrics.outbox_frames.set_function(connections.waiting_frames)
    metrics.uplink_queued.set_function(lambda: uplink.queued)
    metrics.tasks.set_function(lambda: len(asyncio.all_tasks()))
    metrics.event_loop_lag.set_function(lag.worst)


def _concierge(app: web.Application, session: ClientSession) -> Concierge:
    parts = (session, app[keys.SETTINGS], app[keys.LIMITS], app[keys.METRICS])
    tracer = app.get(keys.TRACER)
    if tracer is None:
        return Concierge(*parts)
    return TracedConcierge(*parts).told_to(tracer, app[keys.ALIASES])


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
    asyncio.get_running_loop().set_exception_handler(_calm(app[keys.OCCASIONS]))
    try:
        async with _accepting(runner, _listen(app, host, port)) as url:
            log.info("listening", address=url.partition("://")[2])  # the banner has the URL
            yield url
            await drain(app)
    finally:
        await runner.cleanup()
        log.info("stopped")


@asynccontextmanager
async def _accepting(runner: web.AppRunner, listening: socket.socket) -> AsyncIterator[str]:
    """Accept connections within the context, which gets a URL that works on this machine."""
    loop, app, aiohttp = asyncio.get_running_loop(), runner.app, cast(web.Server, runner.server)
    doorsteps = Doorsteps(app, aiohttp)
    protocols = doorsteps if app[keys.LIMITS].doorstep_bytes else aiohttp
    server = await loop.create_server(protocols, sock=listening, backlog=BACKLOG)
    bound, bound_port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, bound)  # noqa: S104 - compared, not bound
    try:
        yield str(URL.build(scheme="http", host=shown, port=bound_port))
    finally:
        server.close()
        await doorsteps.close()


def _listen(app: web.Application, host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises AddressUnavailable."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        reason = (exc.strerror or "no such address").lower()
        raise AddressUnavailable(f"can't listen on {host}, port {port}: {reason}") from exc
    # Sockets that are accepted inherit all this. (For those asyncio itself sets no TCP_NODELAY.)
    limits = app[keys.LIMITS]
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        patience = round(1000 * limits.unacknowledged)  # milliseconds
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
    return listening


def _calm(occasions: Occasions) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a handler of the loop's own errors that does not flood the log."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = context.get("message", "")
        if message == UNSEEN and isinstance(context.get("exception"), OSError):
            return  # a link that failed just when nobody waited for it any more
        if "out of system resource" not in message:
            loop.default_exception_handler(context)
        elif occasions.due("accept", loop.time()):
            log.error("no descriptors left for new connections (ulimit -n)")

    return handle
