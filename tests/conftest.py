"""Fixtures that most tests share."""

import asyncio
import functools
import gc
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import hypothesis
import pytest
import pytest_asyncio
import structlog
import uvloop

from switchboard_operator.limits import Limits
from tests.fakes import FakeConcierge
from tests.log_guard import no_leak  # noqa: F401 - a fixture of every test
from tests.raw import RawWebSocket
from tests.redis_server import RedisServer, redis_server
from tests.session_api import running
from tests.switchboards import Switchboard, switchboard


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every coroutine on the loop that is shipped, unless it says why not."""
    if item.get_closest_marker("on_asyncio"):
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a coroutine that hangs fail by its name, before pytest-timeout ends its worker."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("timeout")
            seconds = float(marker.args[0] if marker else item.config.getini("timeout"))
            item.obj = _bounded(item.obj, 0.9 * seconds)


def _bounded(
    test: Callable[..., Coroutine[Any, Any, None]], seconds: float
) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def bounded(*arguments: Any, **fixtures: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(*arguments, **fixtures)

    return bounded


@pytest.fixture
async def concierge() -> AsyncIterator[FakeConcierge]:
    """A Concierge that accepts everything until told otherwise."""
    async with FakeConcierge().serving() as fake:
        yield fake


@pytest.fixture
async def board(concierge: FakeConcierge) -> AsyncIterator[Switchboard]:
    """A switchboard with default settings and limits, in this process."""
    async with switchboard(concierge.url) as started:
        yield started


Run = Callable[..., AbstractAsyncContextManager[Switchboard]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    """One Redis for all tests of a module that don't break it."""
    async with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.slow)])
def broker_url(request: pytest.FixtureRequest) -> str:
    """The Redis to use, "" for a broker in memory: each test has its turn with both."""
    if request.param == "memory":
        return ""
    server: RedisServer = request.getfixturevalue("redis")
    return server.url


@pytest.fixture
def limits() -> Limits:
    """What `run` has for limits unless told otherwise; modules may have their own."""
    return Limits()


@pytest.fixture
def run(concierge: FakeConcierge, broker_url: str, limits: Limits) -> Run:
    """Run a switchboard with other limits or variables, on memory and on Redis."""

    def start(limits: Limits = limits, **more: str) -> AbstractAsyncContextManager[Switchboard]:
        return running(concierge, broker_url, limits, **more)

    return start


# Examples take as long as they take on a busy machine; the test's own time-out bounds them all.
# They are the same in every run, so that what fails is what was changed.
PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("chance", PATIENT)
hypothesis.settings.register_profile("tests", PATIENT, derandomize=True)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Have nothing freed but what nothing refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


OpenRaw = Callable[..., Awaitable[RawWebSocket]]


@pytest.fixture
async def open_raw() -> AsyncIterator[OpenRaw]:
    """Open raw WebSockets, as `RawWebSocket.open` does; they end with the test."""
    opened: list[RawWebSocket] = []

    async def open_one(*arguments: Any, **options: Any) -> RawWebSocket:
        opened.append(await RawWebSocket.open(*arguments, **options))
        return opened[-1]

    yield open_one
    for raw in opened:
        raw.abort()


@pytest.fixture(autouse=True)
def no_traceback(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Fail a test in which something was logged with a traceback: a bug, whoever asked for it."""
    caplog.set_level(logging.DEBUG)
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    yield
    if request.node.get_closest_marker("plants_a_bug"):
        return
    for when in ("setup", "call"):
        for record in caplog.get_records(when):
            assert record.exc_info is None, record.getMessage()
            assert "Traceback" not in record.getMessage()
