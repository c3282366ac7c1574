"""What a browser, a balancer and a scraper may look at."""

import hashlib
import hmac
import time
from base64 import b64encode
from html import escape
from pathlib import Path
from string import Template

import msgspec
from aiohttp import web

from switchboard_operator import __version__
from switchboard_operator.web import keys
from switchboard_operator.web.assets import page_headers
from switchboard_operator.web.errors import refusal
from switchboard_operator.web.status import Status

_INDEX = Template(Path(__file__).with_name("index.html").read_text())
_STYLE = _INDEX.template.partition("<style>")[2].partition("</style>")[0]
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_INDEX_HEADERS = page_headers("img-src 'self'", f"style-src 'sha256-{_STYLE_HASH}'") | {
    "Cache-Control": "no-store"
}


async def index(request: web.Request) -> web.Response:
    """Say what this is, in which version, and how it is."""
    words = (await _status(request.app)).in_words()
    text = _INDEX.substitute({name: escape(told) for name, told in words.items()})
    return web.Response(text=text, content_type="text/html", headers=_INDEX_HEADERS)


async def _status(app: web.Application) -> Status:
    return Status(
        version=__version__,
        uptime=time.monotonic() - app[keys.STARTED],
        concierge=await app[keys.CONCIERGE].version(),
        health=app[keys.BROKER].health(),
        draining=app[keys.DRAINING].is_set(),
        sockets=len(app[keys.CONNECTIONS]),
    )


async def chat_page(request: web.Request) -> web.Response:
    """Serve the page that chats."""
    return request.app[keys.ASSETS].response("chat.html", request)


async def widget_file(request: web.Request) -> web.Response:
    """Serve a file of web_client/."""
    return request.app[keys.ASSETS].response(request.match_info["name"], request)


async def live(request: web.Request) -> web.Response:
    """Tell a balancer whether to send traffic: not while this instance shuts down."""
    draining = request.app[keys.DRAINING].is_set()
    return _json({"live": not draining}, 503 if draining else 200)


async def ready(request: web.Request) -> web.Response:
    """Tell a monitor whether everything works; never a reason to stop traffic."""
    health = request.app[keys.BROKER].health()
    draining = request.app[keys.DRAINING].is_set()
    is_ready = health.redis is not False and health.listening and not draining
    state = {
        "ready": is_ready,
        "redis": health.redis,
        "listener": health.listening,
        "draining": draining,
    }
    return _json(state, 200 if is_ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """Show the metrics to who knows the token; without a token there is nothing here."""
    token = request.app[keys.SETTINGS].metrics_token
    if not token:
        raise web.HTTPNotFound
    sent = request.headers.get("Authorization", "")
    if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()):
        return refusal(401, "unauthorized", "a bearer token is needed", WWW_Authenticate="Bearer")
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    return web.Response(body=request.app[keys.METRICS].exposition(), headers=headers)


def _json(content: dict[str, bool | None], status: int) -> web.Response:
    body = msgspec.json.encode(content)
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
