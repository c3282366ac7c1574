"""What the Concierge may ask about a session, and have forgotten."""

import asyncio

import msgspec
from aiohttp import web

from switchboard_operator import sessions
from switchboard_operator.errors import BrokerUnavailable, RequestRefused
from switchboard_operator.web import keys
from switchboard_operator.web.postback import signed_body


async def state(request: web.Request) -> web.Response:
    """Tell whether the user is there, and how far their mailbox and their cursor are."""
    await signed_body(request)
    session, broker = _session(request), request.app[keys.BROKER]
    sockets = await broker.sockets(session)
    try:
        async with asyncio.timeout(request.app[keys.LIMITS].confirm):
            page = await broker.mailbox.read(session, None)
    except TimeoutError as exc:
        raise BrokerUnavailable from exc
    if page is None:
        raise BrokerUnavailable
    content = {
        "online": sockets > 0,
        "sockets": sockets,
        "last": str(page.at(page.last)),
        "cursor": str(page.at(page.cursor)),
    }
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")


async def erase(request: web.Request) -> web.Response:
    """Forget what is kept of the session's postbacks."""
    await signed_body(request)
    await request.app[keys.BROKER].mailbox.erase(_session(request))
    return web.Response(status=204)


def _session(request: web.Request) -> str:
    session = request.match_info["session"]
    if not sessions.is_valid(session):
        raise RequestRefused("bad_session", "this is not a session id", status=400)
    return session
