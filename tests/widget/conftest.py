"""Fixtures of the browser tests: each worker has a Chromium, each visitor a profile."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, switchboard
from tests.widget.browser import Site, Visitor, chromium

Arrive = Callable[..., Awaitable[Visitor]]


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a worker."""
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def concierge() -> AsyncIterator[FakeConcierge]:
    """A Concierge that accepts everything, for all tests of a module; users tell them apart."""
    async with FakeConcierge().serving() as fake:
        yield fake


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def board(concierge: FakeConcierge) -> AsyncIterator[Switchboard]:
    """A switchboard for all tests of a module."""
    async with switchboard(concierge.url, RATE_LIMIT="0") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def site(board: Switchboard) -> AsyncIterator[Site]:
    """A customer's site with the widget of `board` on its first page, under a strict policy."""
    async with Site().serving() as running:
        running.under_policy(board.url)
        running.embed(board.url, title="Ask us")
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def arrive(browser: Browser) -> AsyncIterator[Arrive]:
    """Bring visitors with a profile each; at the end nothing must have gone wrong at any page."""
    arrived: list[Visitor] = []

    async def come(**options: Any) -> Visitor:
        arrived.append(await Visitor.arrive(browser, **options))
        return arrived[-1]

    yield come
    for visitor in arrived:
        await visitor.leave()
    for visitor in arrived:
        assert not visitor.errors
        assert all(
            url.split("/")[2].startswith("127.0.0.1:") for url in visitor.requests if "//" in url
        )
