"""Start switchboards on loopback, in this process or as a process, and talk to them."""

import asyncio
import dataclasses
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.client import ClientWebSocketResponse
from msgspec import json

from switchboard_operator import signatures
from switchboard_operator.app import create_app, serving
from switchboard_operator.limits import Limits
from switchboard_operator.settings import Settings
from tests.fakes import SECRET
from tests.log_guard import PASSED, NotedWebSocket, noting

ROOT = Path(__file__).parent.parent
SESSION = "7c1f1f0e-6d0f-4d5c-8a53-2f0c2f6b9a11"
SECRET_KEY = "the secret of the tests' cookies and tokens"


def variables(concierge_url: str, **more: str) -> dict[str, str]:
    """Return the variables of a switchboard on a free port of loopback."""
    given = {
        "CONCIERGE_URL": concierge_url,
        "CONCIERGE_POSTBACK_SECRET_KEY": SECRET,
        "SWITCHBOARD_SECRET_KEY": SECRET_KEY,
        "SWITCHBOARD_HOST": "127.0.0.1",
        "SWITCHBOARD_PORT": "0",
        "METRICS_TOKEN": "the scraper's token",
        "DRAIN_SECONDS": "0",
        **more,
    }
    PASSED.variables(given)
    return given


@dataclasses.dataclass
class Switchboard:
    """A switchboard that serves at `url`; `app` is there if it runs in this process."""

    url: str
    client: aiohttp.ClientSession
    app: web.Application | None = None
    process: asyncio.subprocess.Process | None = None
    output: list[str] = dataclasses.field(default_factory=list)

    async def connect(
        self, session: str | None = SESSION, **options: Any
    ) -> ClientWebSocketResponse:
        """Open a socket as *session*; None leaves the parameter out."""
        query = {} if session is None else {"session": session}
        socket: ClientWebSocketResponse = await self.client.ws_connect(
            f"{self.url}/", params=query, **options
        )
        return socket

    async def postback(self, content: Any, **options: Any) -> aiohttp.ClientResponse:
        """Post what the Concierge would: signed, *content* being bytes or what JSON can hold."""
        body = content if isinstance(content, bytes) else json.encode(content)
        headers = signed(body) | options.pop("headers", {})
        async with self.client.post(
            f"{self.url}/", data=body, headers=headers, **options
        ) as response:
            await response.read()
            return response

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        """Get *path*; return status and text."""
        async with self.client.get(f"{self.url}{path}", **options) as response:
            return response.status, await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric, 0 if it was never moved."""
        headers = {"Authorization": "Bearer the scraper's token"}
        _, text = await self.get("/metrics", headers=headers)
        assert f"# TYPE {re.sub('_(total|count|sum)$', '', name)}" in text, (
            f"no metric is called {name}"
        )
        shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
        series = re.escape(f"{name}{{{shown}}}" if shown else name)
        found = re.search(rf"^{series} (.*)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def client_session(**options: Any) -> aiohttp.ClientSession:
    """Return a session for any number of sockets, which keeps no cookies; what passes is noted."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[noting()],
        ws_response_class=NotedWebSocket,
        **options,
    )


async def eventually(what: Callable[[], Awaitable[bool] | bool], pause: float = 0.02) -> None:
    """Wait until *what* is true, where nothing tells of it; the test's own time-out bounds it."""
    while True:
        found = what()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(pause)


def signed(body: bytes, target: str = "/", secret: str = SECRET) -> dict[str, str]:
    """Return the headers with which the Concierge posts *body*."""
    return signatures.sign("POST", target, "application/json", body, secret, datetime.now(UTC))


@asynccontextmanager
async def switchboard(
    concierge_url: str, limits: Limits | None = None, **more: str
) -> AsyncIterator[Switchboard]:
    """Run a switchboard in this process; *more* are variables."""
    settings = Settings.read(variables(concierge_url, **more))
    app = create_app(settings, limits)
    async with (
        serving(app, settings.switchboard_host, settings.switchboard_port) as url,
        client_session() as client,
    ):
        yield Switchboard(url, client, app)


@asynccontextmanager
async def switchboard_process(
    environment: Mapping[str, str],
    command: Sequence[str] = (sys.executable, "-m", "switchboard_operator"),
    cwd: Path = ROOT / "tests",  # where no .env lies
) -> AsyncIterator[Switchboard]:
    """
    Run a switchboard as a process; it gets SIGTERM in the end unless it has ended before.

    It logs all that can be logged, unless the environment says otherwise.
    """
    PASSED.variables(environment)
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LOG_LEVEL": "debug",
            **environment,
        },
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with client_session() as client:
        board = Switchboard("", client, process=process)
        listening = asyncio.Event()
        reader = asyncio.create_task(_read_output(board, listening))
        try:
            await asyncio.wait_for(listening.wait(), 90)
            yield board
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                raise
            finally:
                await reader


async def _read_output(board: Switchboard, listening: asyncio.Event) -> None:
    """Keep a process's lines; the first URL among them is the chat's address."""
    assert board.process is not None
    assert board.process.stdout is not None
    async for line in board.process.stdout:
        board.output.append(line.decode().rstrip("\n"))
        PASSED.output.append(board.output[-1])
        found = re.search(r"(http://\S+)/chat", board.output[-1])
        if found and not board.url:
            board.url = found[1]
            listening.set()
    listening.set()
