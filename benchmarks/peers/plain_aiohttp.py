"""The gateway's contract as a plain aiohttp program: what the benchmark compares with."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from os import environ  # noqa: TID251 - a program of its own

import aiohttp
from aiohttp import web
from redis.asyncio import Redis

from switchboard_operator.loop_lag import LoopLag  # the same yardstick for all

CHANNEL = "bot-message"
LONGEST_AGE = 900.0  # seconds between a request's Date and our clock

SECRET = environ["CONCIERGE_POSTBACK_SECRET_KEY"].encode()
CONCIERGE, REDIS = environ["CONCIERGE_URL"], environ["REDISCLOUD_URL"]
HOST, PORT = environ["SWITCHBOARD_HOST"], int(environ["SWITCHBOARD_PORT"])

sockets: dict[str, web.WebSocketResponse] = {}
routes = web.RouteTableDef()
redis = Redis.from_url(REDIS)
client_key = web.AppKey("client_key", aiohttp.ClientSession)
lag_key = web.AppKey("lag_key", LoopLag)


def sign(path: str, body: bytes, date: str) -> dict[str, str]:
    """Return the headers that sign a POST of JSON."""
    content_hash = base64.b64encode(hashlib.sha256(body).digest()).decode()
    text = ",".join(("POST", "application/json", content_hash, path, date))
    digest = base64.b64encode(hmac.digest(SECRET, text.encode(), "sha256")).decode()
    return {
        "Content-Type": "application/json",
        "Date": date,
        "X-Authorization-Content-SHA256": content_hash,
        "Authorization": f"APIAuth-HMAC-SHA256 switchboard:{digest}",
    }


def is_signed(request: web.Request, body: bytes) -> bool:
    """Tell whether the Concierge has signed *request*."""
    date = request.headers.get("Date", "")
    try:
        age = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    except ValueError:
        return False
    expected = sign(request.path_qs, body, date).items()
    return age < LONGEST_AGE and all(
        hmac.compare_digest(value, request.headers.get(name, "")) for name, value in expected
    )


@routes.get("/")
async def chat(request: web.Request) -> web.WebSocketResponse:
    """Let a user in, and tell the Concierge what they say."""
    session = request.query["session"]
    socket = web.WebSocketResponse(heartbeat=25.0, compress=False)
    await socket.prepare(request)
    sockets[session] = socket
    async with asyncio.TaskGroup() as telling:
        async for message in socket:
            telling.create_task(tell_concierge(request.app, session, message.json()))
    sockets.pop(session, None)
    return socket


async def tell_concierge(app: web.Application, session: str, said: dict[str, object]) -> None:
    """Post what a user said."""
    content = {"Body": said.get("message"), "From": session, "Payload": said.get("payload")}
    body, path = json.dumps(content).encode(), "/incoming/postback"
    headers = sign(path, body, format_datetime(datetime.now(UTC), usegmt=True))
    async with app[client_key].post(CONCIERGE + path, data=body, headers=headers) as response:
        response.raise_for_status()


@routes.post("/")
async def postback(request: web.Request) -> web.Response:
    """Take a reply of the Concierge for one user."""
    body = await request.read()
    if not is_signed(request, body):
        return web.Response(status=401)
    await redis.publish(CHANNEL, json.dumps(json.loads(body)))
    return web.Response(status=204)


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Tell how late the event loop was."""
    return web.Response(text=f"switchboard_event_loop_lag_seconds {request.app[lag_key].worst()}\n")


async def listen() -> None:
    """Hand what is published to the users who are here."""
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(CHANNEL)
        async for event in pubsub.listen():
            socket = sockets.get(json.loads(event["data"])["to"])
            if socket is not None:
                await socket.send_str(event["data"].decode())


async def links(app: web.Application) -> AsyncIterator[None]:
    """Keep the links to Redis and the Concierge while the program runs."""
    async with redis, aiohttp.ClientSession() as app[client_key]:
        listening = asyncio.create_task(listen())
        with LoopLag(every=0.1, window=10) as app[lag_key]:
            yield
        listening.cancel()


async def leave(_app: web.Application) -> None:
    """Close all sockets, as aiohttp's manual has it."""
    for socket in list(sockets.values()):
        await socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    app = web.Application()
    app.cleanup_ctx.append(links)
    app.on_shutdown.append(leave)
    app.add_routes(routes)
    web.run_app(app, host=HOST, port=PORT)
