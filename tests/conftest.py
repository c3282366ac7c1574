"""Fixtures that most tests share."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, switchboard


@pytest.fixture
async def concierge() -> AsyncIterator[FakeConcierge]:
    """A Concierge that accepts everything until told otherwise."""
    async with FakeConcierge().serving() as fake:
        yield fake


@pytest.fixture
async def board(concierge: FakeConcierge) -> AsyncIterator[Switchboard]:
    """A switchboard with default settings and limits, in this process."""
    async with switchboard(concierge.url) as running:
        yield running


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which something was logged with a traceback: a bug, whoever asked for it."""
    caplog.set_level(logging.DEBUG)
    yield
    for when in ("setup", "call"):
        for record in caplog.get_records(when):
            assert record.exc_info is None, record.getMessage()
            assert "Traceback" not in record.getMessage()
