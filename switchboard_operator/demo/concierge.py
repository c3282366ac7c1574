"""The demo's Concierge: an HTTP server that checks our signatures and signs its own."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import structlog
from aiohttp import web
from msgspec import MsgspecError, Struct, json

from switchboard_operator import __version__, signatures
from switchboard_operator.demo.bot import Bot, Reply
from switchboard_operator.errors import SignatureError
from switchboard_operator.signatures import SignedRequest

LOOPBACK = "127.0.0.1"

_JSON = "application/json"
_PICTURE = Path(__file__).with_name("switchboard.svg")

log = structlog.get_logger()


class _Said(Struct):
    From: str
    Body: str | None = None
    Payload: Any = None


class DemoConcierge:
    """
    Takes user messages and answers each by postbacks, in order.

    It holds to the contract as any Concierge does; nothing here knows the switchboard's inside.
    """

    def __init__(self, secret: str = "") -> None:
        """Share *secret* with the switchboard; make one if it is empty."""
        self.secret = secret or secrets.token_urlsafe(32)
        self.url = ""
        self._switchboard = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def serving(
        self, host: str = LOOPBACK, port: int = 0, pictures: str = ""
    ) -> AsyncIterator[Self]:
        """
        Listen within the context; *port* 0 takes a free one.

        *pictures* is the URL at which users' browsers find it, if that is another one.
        """
        app = web.Application()
        app.add_routes(
            [
                web.post("/incoming/postback", self._incoming),
                web.get("/version", self._version),
                web.get("/switchboard.svg", self._picture),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        async with aiohttp.ClientSession() as self._client:
            try:
                await web.TCPSite(runner, host, port).start()
                self.url = "http://{}:{}".format(*runner.addresses[0][:2])
                self._bot = Bot(f"{pictures or self.url}/switchboard.svg")
                yield self
            finally:
                await runner.cleanup()
                await self._stop()

    def answer_to(self, switchboard: str) -> None:
        """Post replies to the *switchboard* at that URL."""
        self._switchboard = switchboard

    async def _incoming(self, request: web.Request) -> web.Response:
        body = await request.read()
        signed = SignedRequest(
            request.method, request.raw_path, tuple(request.headers.items()), body
        )
        try:
            signatures.verify(signed, [self.secret], datetime.now(UTC))
        except SignatureError:
            return web.Response(status=401)
        try:
            said = json.decode(body, type=_Said)
        except (MsgspecError, UnicodeError, RecursionError):
            return web.Response(status=400)
        replies = self._bot.replies(said.From, said.Body, said.Payload)
        turn = self._turns.setdefault(said.From, asyncio.Lock())
        task = asyncio.create_task(self._answer(said.From, replies, turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.Response(status=204)

    async def _answer(self, session: str, replies: list[Reply], turn: asyncio.Lock) -> None:
        async with (
            turn
        ):  # first come, first served: the user sees answers in the order of questions
            for reply in replies:
                await asyncio.sleep(reply.delay)
                await self._post({"to": session, "from": "demo", **reply.content})

    async def _post(self, postback: Mapping[str, Any]) -> None:
        body = json.encode(postback)
        headers = signatures.sign("POST", "/", _JSON, body, self.secret, datetime.now(UTC))
        try:
            async with self._client.post(
                f"{self._switchboard}/", data=body, headers=headers
            ) as response:
                if not response.ok:
                    log.warning("demo postback refused", status=response.status)
        except (aiohttp.ClientError, TimeoutError) as exc:
            log.warning("demo postback failed", error=type(exc).__name__)

    async def _version(self, _request: web.Request) -> web.Response:
        return web.Response(text=f"demo {__version__}")

    async def _picture(self, _request: web.Request) -> web.Response:
        return web.Response(body=_PICTURE.read_bytes(), content_type="image/svg+xml")

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def demo_variables(concierge: DemoConcierge) -> dict[str, str]:
    """Return the variables of a switchboard that talks to *concierge* and to loopback only."""
    return {
        "CONCIERGE_URL": concierge.url,
        "CONCIERGE_POSTBACK_SECRET_KEY": concierge.secret,
        "SWITCHBOARD_SECRET_KEY": secrets.token_urlsafe(32),
        "SWITCHBOARD_HOST": LOOPBACK,
        "REDISCLOUD_URL": "",
    }
