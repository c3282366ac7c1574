"""The connections that aiohttp has not got, or not yet."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from switchboard_operator.web import keys
from switchboard_operator.web.doorstep import Doorstep
from switchboard_operator.web.porter import Porter


class Doorsteps:
    """Makes a doorstep for each connection, and ends those that are left."""

    def __init__(self, app: web.Application, aiohttp: Callable[[], asyncio.Protocol]) -> None:
        """Take postbacks for *app*, which is running; *aiohttp* makes protocols for the rest."""
        self._limits = app[keys.LIMITS]
        self._porter = Porter(app)
        self._aiohttp = aiohttp
        self._there: set[Doorstep] = set()
        self._emptied = asyncio.Event()

    def __call__(self) -> Doorstep:
        """Return the protocol of a connection that comes in."""
        doorstep = Doorstep(self._porter, self._limits, self._aiohttp, self._forget)
        self._there.add(doorstep)
        return doorstep

    async def close(self) -> None:
        """End what is idle, and wait a while for the answers that are due."""
        await asyncio.sleep(0)  # what has come in by now is still taken
        for doorstep in tuple(self._there):
            doorstep.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.clean_up):
                await self._all_left()
        for doorstep in tuple(self._there):
            doorstep.abort()

    async def _all_left(self) -> None:
        while self._there:
            self._emptied.clear()
            await self._emptied.wait()

    def _forget(self, doorstep: Doorstep) -> None:
        self._there.discard(doorstep)
        if not self._there:
            self._emptied.set()
