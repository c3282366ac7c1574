"""The bot's postbacks to the users of a run."""

import asyncio
from collections import defaultdict

import aiohttp
from msgspec import json

from benchmarks.lines import AGAIN, post
from benchmarks.soak.users import User, World
from tests.switchboards import signed

PATIENCE = 20.0  # seconds that a POST may take


class Poster:
    """
    Posts to each user one thing after the other, by either instance.

    After a 202 the postback may still wait there, so that the next one goes there, too.
    """

    def __init__(self, world: World, client: aiohttp.ClientSession) -> None:
        """Post by the instances of *world*."""
        self.troubles: list[str] = []
        self._world = world
        self._client = client
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._held: dict[str, int] = {}  # ports, by session

    async def post(self, user: User, pad: str = "") -> None:
        """Post the next number to *user*."""
        async with self._turns[user.session]:
            port = self._held.pop(user.session, 0) or self._world.any_port()
            content = {"to": user.session, "from": "bot", "n": user.posted, "pad": pad}
            status = await self._answer(port, json.encode(content))
            if status == 202:
                self._world.counts["postbacks held"] += 1
                self._held[user.session] = port
            if status in {202, 204}:
                self._world.counts["postbacks"] += 1
                user.posted += 1
            else:
                self.troubles.append(f"a postback was answered {status}")

    async def _answer(self, port: int, body: bytes) -> int:
        headers = signed(body)  # the same each time, by which it is known
        while (status := await post(self._client, port, body, headers, PATIENCE)) is None:
            self._world.counts["POSTs repeated"] += 1
            await asyncio.sleep(AGAIN)
        return status
