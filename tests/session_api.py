"""Ask a switchboard of sessions as the Concierge does, and wait by that until all of it works."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from yarl import URL

from switchboard_operator import signatures
from switchboard_operator.limits import Limits
from tests.fakes import SECRET, FakeConcierge
from tests.switchboards import Switchboard, eventually, switchboard


def user() -> str:
    """Return a session id that nobody else has."""
    return str(uuid.uuid4())


def path_of(session: str) -> str:
    return f"/sessions/{quote(session, safe='')}"


def signed(method: str, target: str, now: datetime | None = None) -> dict[str, str]:
    """Return the headers with which the Concierge signs a request without a body."""
    headers = signatures.sign(method, target, "", b"", SECRET, now or datetime.now(UTC))
    del headers["Content-Type"]
    return headers


async def call(
    board: Switchboard, method: str, target: str, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Make a request, signed unless *headers* are given; return status and JSON."""
    url = URL(f"{board.url}{target}", encoded=True)
    headers = signed(method, target) if headers is None else headers
    async with board.client.request(method, url, headers=headers) as response:
        text = await response.text()
        if text:
            assert response.content_type == "application/json"
        if response.status == 503:
            assert int(response.headers["Retry-After"]) > 0
        return response.status, json.loads(text) if text else None


async def state(board: Switchboard, session: str) -> dict[str, Any]:
    """Return what the switchboard tells of a session."""
    status, content = await call(board, "GET", path_of(session))
    assert status == 200
    assert isinstance(content, dict)
    return content


async def ready(board: Switchboard) -> None:
    """Wait until all that a switchboard does by Redis works: hear, publish, and call."""

    async def is_ready() -> bool:
        calls, _ = await call(board, "GET", path_of("nobody"))
        return (await board.get("/ready"))[0] == calls == 200

    await eventually(is_ready)


@asynccontextmanager
async def running(
    concierge: FakeConcierge, broker_url: str, limits: Limits, **more: str
) -> AsyncIterator[Switchboard]:
    """Run a switchboard on the Redis at *broker_url*, "" for on its own, once all of it works."""
    async with switchboard(concierge.url, limits, REDISCLOUD_URL=broker_url, **more) as started:
        await ready(started)
        yield started
