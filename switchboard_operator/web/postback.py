"""The Concierge's door: take signed postbacks and publish them."""

import asyncio
from datetime import UTC, datetime

import structlog
from aiohttp import hdrs, web

from switchboard_operator import messages, signatures
from switchboard_operator.errors import BrokerFull, PostbackRefused, SignatureError
from switchboard_operator.signatures import SignedRequest
from switchboard_operator.web import keys
from switchboard_operator.web.errors import refusal

log = structlog.get_logger()


async def postback(request: web.Request) -> web.Response:
    """Take a reply of the Concierge, or several, and let every instance try to deliver them."""
    counted = request.app[keys.METRICS].postbacks
    try:
        body = await _read(request)
        _check_signature(request, body)
        postbacks = messages.parse_postbacks(
            body,
            max_bytes=request.app[keys.SETTINGS].max_postback_bytes,
            max_items=request.app[keys.LIMITS].array_items,
        )
        receipt = await request.app[keys.BROKER].publish(postbacks)
    except PostbackRefused as exc:
        counted.labels(exc.code).inc()
        return refusal(exc.status, exc.code, exc.detail)
    except BrokerFull:
        counted.labels("overloaded").inc()
        return refusal(503, "overloaded", "too much is held already", Retry_After="5")
    counted.labels("confirmed" if receipt.confirmed else "held").inc(len(postbacks))
    return web.Response(status=204 if receipt.confirmed else 202)


async def _read(request: web.Request) -> bytes:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise PostbackRefused("content_encoding", "send the body as it is, not encoded", status=415)
    try:
        async with asyncio.timeout(request.app[keys.LIMITS].body):
            return await request.read()
    except TimeoutError as exc:
        raise PostbackRefused("body_late", "the body did not arrive in time", status=408) from exc
    except web.HTTPRequestEntityTooLarge as exc:
        raise PostbackRefused("too_large", "the body is too large", status=413) from exc


def _check_signature(request: web.Request, body: bytes) -> None:
    settings = request.app[keys.SETTINGS]
    signed = SignedRequest(request.method, request.raw_path, tuple(request.headers.items()), body)
    try:
        signatures.verify(
            signed,
            settings.concierge_postback_secret_key,
            datetime.now(UTC),
            settings.concierge_accept_md5,
        )
    except SignatureError as exc:
        request.app[keys.METRICS].signature_failures.labels(exc.cause).inc()
        log.warning("signature refused", cause=exc.cause, detail=str(exc), peer=request.remote)
        # One answer for all causes: the sender learns nothing about how close it was.
        raise PostbackRefused("unauthorized", "the signature is not valid", status=401) from exc
