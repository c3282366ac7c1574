"""The outside of the switchboard: a Concierge that does as it is told, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from msgspec import json

from tests.log_guard import PASSED
from tests.ports import kept_port

SECRET = "shared with the fake Concierge"


@dataclass(frozen=True)
class Incoming:
    """A POST that the fake got, as it came."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    target: str

    @property
    def content(self) -> Any:
        return json.decode(self.body)

    def header(self, name: str) -> str:
        [value] = [value for key, value in self.headers if key.lower() == name.lower()]
        return value


Answer = Callable[[Incoming], Awaitable[int]]


async def accept(_incoming: Incoming) -> int:
    return 204


class FakeConcierge:
    """Records every POST in `received`, and those that it accepted in `accepted`, in order."""

    def __init__(self) -> None:
        self.answer: Answer = accept
        self.received: list[Incoming] = []
        self.accepted: list[Incoming] = []
        self.version = "fake 1.0"
        self.port = 0
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        with kept_port() as self.port:
            await self.start()
            try:
                yield self
            finally:
                await self.stop()

    async def start(self) -> None:
        """Listen on its port."""
        app = web.Application()
        app.router.add_post("/incoming/postback", self._incoming)
        app.router.add_get("/version", self._version)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Stop listening, once what is being answered is answered."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def hold(self) -> asyncio.Event:
        """Answer nothing until the event that is returned is set; then accept."""
        released = asyncio.Event()

        async def wait(_incoming: Incoming) -> int:
            await released.wait()
            return 204

        self.answer = wait
        return released

    async def has_received(self, count: int) -> list[Incoming]:
        """Wait for *count* POSTs."""
        return await self._has(self.received, count)

    async def has_accepted(self, count: int) -> list[Incoming]:
        """Wait for *count* POSTs that were answered with a 2xx."""
        return await self._has(self.accepted, count)

    async def _has(self, which: list[Incoming], count: int) -> list[Incoming]:
        async with self._changed:
            await self._changed.wait_for(lambda: len(which) >= count)
        return which

    async def _incoming(self, request: web.Request) -> web.Response:
        body = await request.read()
        PASSED.body(body)
        PASSED.request("", request.headers.items())
        incoming = Incoming(body, tuple(request.headers.items()), request.raw_path)
        await self._record(self.received, incoming)
        status = await self.answer(incoming)
        if 200 <= status < 300:
            await self._record(self.accepted, incoming)
        return web.Response(status=status)

    async def _record(self, which: list[Incoming], incoming: Incoming) -> None:
        async with self._changed:
            which.append(incoming)
            self._changed.notify_all()

    async def _version(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.version)
