"""How Redis and the Concierge are when a process starts, for its banner."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from switchboard_operator.web import keys

NOBODY = "~nobody.has-this-session"  # `~` is in no session's alphabet


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What the `concierge` calls its version, None if it does not say; whether `redis` answers."""

    concierge: str | None = None
    redis: bool = False


async def first_look(app: web.Application) -> FirstLook:
    """Ask both, and wait a moment; who has not answered by then may do so later."""
    version = asyncio.ensure_future(app[keys.CONCIERGE].version())
    page = app[keys.BROKER].mailbox.read(NOBODY, None)
    asked: list[asyncio.Future[Any]] = [version, page]
    await asyncio.wait(asked, timeout=app[keys.LIMITS].first_look)
    look = FirstLook(version.result() if version.done() else None, page.done())
    version.cancel()
    page.cancel()
    await asyncio.wait([version])
    return look
