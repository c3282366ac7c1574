"""Whether Redis and the Concierge are there when a process starts, for its banner."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from yarl import URL

from switchboard_operator.web import keys

NOBODY = "~nobody.has-this-session"  # `~` is in no session's alphabet


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Whether the `concierge` takes connections, and whether `redis` answers."""

    concierge: bool = False
    redis: bool = False


async def first_look(app: web.Application) -> FirstLook:
    """Look for both, and wait a moment; who is not there by then may be so later."""
    link = asyncio.ensure_future(_connect(URL(app[keys.SETTINGS].concierge_url)))
    page = app[keys.BROKER].mailbox.read(NOBODY, None)
    asked: list[asyncio.Future[Any]] = [link, page]
    await asyncio.wait(asked, timeout=app[keys.LIMITS].first_look)
    look = FirstLook(link.done() and link.result(), page.done())
    link.cancel()
    page.cancel()
    await asyncio.wait([link])
    return look


async def _connect(url: URL) -> bool:
    """Tell whether somebody listens there, who is asked nothing: a Concierge may count requests."""
    try:
        _, writer = await asyncio.open_connection(url.host, url.port)
    except OSError:
        return False
    writer.close()
    return True
