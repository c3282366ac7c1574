"""The connections that aiohttp has not got, or not yet."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from switchboard_operator.web import keys
from switchboard_operator.web.doorstep import Doorstep
from switchboard_operator.web.porter import Porter
from switchboard_operator.web.upgrades import Upgrades


class Doorsteps:
    """Makes a doorstep for each connection, and ends those that are left."""

    def __init__(self, app: web.Application, aiohttp: Callable[[], asyncio.Protocol]) -> None:
        """Take postbacks for *app*, which is running; *aiohttp* makes protocols for the rest."""
        self._limits = app[keys.LIMITS]
        self._porter = Porter(app)
        self._upgrades = Upgrades(app)
        self._aiohttp = aiohttp
        self._there: set[Doorstep] = set()

    def __call__(self) -> Doorstep:
        """Return the protocol of a connection that comes in."""
        return Doorstep(self._porter, self._upgrades, self._limits, self._aiohttp, self._there)

    async def close(self) -> None:
        """End what is idle, and wait a while for the answers that are due."""
        await asyncio.sleep(0)  # what has come in by now is still taken
        closing = [doorstep.close() for doorstep in self._there]
        if closing:
            await asyncio.wait(closing, timeout=self._limits.clean_up)
        for doorstep in self._there:
            doorstep.abort()
