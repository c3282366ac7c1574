"""The Concierge's door: take signed postbacks and publish them."""

import asyncio
from datetime import UTC, datetime

import structlog
from aiohttp import hdrs, web

from switchboard_operator import messages, signatures
from switchboard_operator.errors import PostbackRefused, SignatureError
from switchboard_operator.messages import Postback
from switchboard_operator.signatures import SignedRequest
from switchboard_operator.web import keys

log = structlog.get_logger()


async def postback(request: web.Request) -> web.Response:
    """Take a reply of the Concierge, or several, and let every instance try to deliver them."""
    body = await _read(request)
    _check_signature(request, body)
    postbacks = _parse(request, body)
    receipt = await request.app[keys.BROKER].publish(postbacks)
    outcome, status = ("confirmed", 204) if receipt.confirmed else ("held", 202)
    request.app[keys.METRICS].postbacks.labels(outcome).inc(len(postbacks))
    return web.Response(status=status)


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
        max_bytes=request.app[keys.SETTINGS].max_postback_bytes,
        max_items=request.app[keys.LIMITS].array_items,
    )


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
        _note_refusal(request, exc)
        # One answer for all causes: the sender learns nothing about how close it was.
        raise PostbackRefused("unauthorized", "the signature is not valid", status=401) from exc


def _note_refusal(request: web.Request, refused: SignatureError) -> None:
    """Count the refusal, and log its cause, but no more often than somebody would read it."""
    request.app[keys.METRICS].signature_failures.labels(refused.cause).inc()
    if request.app[keys.OCCASIONS].due(refused.cause, asyncio.get_running_loop().time()):
        log.warning(
            "signature refused", cause=refused.cause, detail=str(refused), peer=request.remote
        )
