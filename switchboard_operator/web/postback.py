"""The Concierge's door: take signed postbacks and publish them."""

import asyncio
from http import HTTPStatus

from aiohttp import hdrs, web

from switchboard_operator import messages, signatures
from switchboard_operator.broker.base import Receipt
from switchboard_operator.errors import PostbackRefused
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Postback
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings
from switchboard_operator.web import keys, signature

MESSAGE_ID = "Switchboard-Message-Id"


async def postback(request: web.Request) -> web.Response:
    """Take a reply of the Concierge, or several, and let every instance try to deliver them."""
    app = request.app
    body, hmac = await signed_body(request)
    postbacks = parse(body, hmac, app[keys.SETTINGS], app[keys.LIMITS])
    app[keys.DELIVERY_SAMPLE].accepted(postbacks[0])
    receipt = await app[keys.BROKER].publish(postbacks)
    count(receipt, len(postbacks), app[keys.METRICS])
    return web.Response(
        status=status(receipt), headers=headers(receipt, single=not messages.is_array(body))
    )


def parse(body: bytes, hmac: bytes, settings: Settings, limits: Limits) -> list[Postback]:
    """Return the postbacks in a *body* that was signed with *hmac*. Raises PostbackRefused."""
    return messages.parse_postbacks(
        body,
        signatures.request_key(hmac),
        max_bytes=settings.max_postback_bytes,
        max_items=limits.array_items,
    )


def count(receipt: Receipt, postbacks: int, metrics: Metrics) -> None:
    """Count what became of *postbacks*."""
    if receipt.confirmed and not receipt.repeated:
        metrics.postbacks_confirmed.add(postbacks)
    else:
        metrics.postbacks.labels("repeated" if receipt.confirmed else "held").inc(postbacks)


def status(receipt: Receipt) -> HTTPStatus:
    """Return the status that answers who has sent what *receipt* is for."""
    return HTTPStatus.NO_CONTENT if receipt.confirmed else HTTPStatus.ACCEPTED


def headers(receipt: Receipt, *, single: bool) -> dict[str, str]:
    """Return the fields that go with it; only what is *single* has one id to tell."""
    named: dict[str, str] = {}
    if single and receipt.ids and receipt.ids[0]:
        named[MESSAGE_ID] = receipt.ids[0]
    if receipt.repeated:
        named["Switchboard-Duplicate"] = "true"
    return named


async def signed_body(request: web.Request) -> tuple[bytes, bytes]:
    """
    Return the body of a request that the Concierge has signed, and the HMAC.

    Raises:
        PostbackRefused: it is too long, too late or not signed.
    """
    body = await _read(request)
    return body, signature.check(request, body)


async def _read(request: web.Request) -> bytes:
    encodings = request.headers.getall(hdrs.CONTENT_ENCODING, [])
    if any(encoding.lower() != "identity" for encoding in encodings):
        raise PostbackRefused("content_encoding", "send the body as it is, not encoded", status=415)
    limits = request.app[keys.LIMITS]
    if (request.content_length or 0) > limits.array_bytes:
        raise PostbackRefused("too_large", "the body is too large", status=413)
    try:
        async with asyncio.timeout(limits.body):
            return await request.read()
    except TimeoutError as exc:
        raise PostbackRefused("body_late", "the body did not arrive in time", status=408) from exc
    except web.HTTPRequestEntityTooLarge as exc:
        raise PostbackRefused("too_large", "the body is too large", status=413) from exc
    except (ConnectionError, web.RequestPayloadError) as exc:
        raise PostbackRefused("bad_request", "the body broke off", status=400) from exc
