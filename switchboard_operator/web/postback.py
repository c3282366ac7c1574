"""The Concierge's door: take signed postbacks and publish them."""

import asyncio

from aiohttp import hdrs, web

from switchboard_operator import messages, signatures
from switchboard_operator.broker.base import Receipt
from switchboard_operator.errors import PostbackRefused
from switchboard_operator.messages import Postback
from switchboard_operator.web import keys, signature


async def postback(request: web.Request) -> web.Response:
    """Take a reply of the Concierge, or several, and let every instance try to deliver them."""
    body = await signed_body(request)
    postbacks = _parse(request, body)
    receipt = await request.app[keys.BROKER].publish(postbacks)
    outcome = ("repeated" if receipt.repeated else "confirmed") if receipt.confirmed else "held"
    request.app[keys.METRICS].postbacks.labels(outcome).inc(len(postbacks))
    headers = _headers(receipt, single=not messages.is_array(body))
    return web.Response(status=204 if receipt.confirmed else 202, headers=headers)


async def signed_body(request: web.Request) -> bytes:
    """
    Return the body of a request that the Concierge has signed.

    Raises:
        PostbackRefused: it is too long, too late or not signed.
    """
    body = await _read(request)
    signature.check(request, body)
    return body


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


def _parse(request: web.Request, body: bytes) -> list[Postback]:
    return messages.parse_postbacks(
        body,
        signatures.request_key(request.headers[hdrs.AUTHORIZATION]),
        max_bytes=request.app[keys.SETTINGS].max_postback_bytes,
        max_items=request.app[keys.LIMITS].array_items,
    )


def _headers(receipt: Receipt, *, single: bool) -> dict[str, str]:
    headers: dict[str, str] = {}
    if single and receipt.marks and receipt.marks[0] is not None:
        headers["Switchboard-Message-Id"] = str(receipt.marks[0])
    if receipt.repeated:
        headers["Switchboard-Duplicate"] = "true"
    return headers
