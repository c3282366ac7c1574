"""The signature that every request of the Concierge bears."""

import asyncio
from datetime import UTC, datetime

import structlog
from aiohttp import web

from switchboard_operator import signatures
from switchboard_operator.errors import PostbackRefused, SignatureError
from switchboard_operator.settings import Settings
from switchboard_operator.signatures import SignedRequest
from switchboard_operator.web import keys, request_id

log = structlog.get_logger()


def verify(signed: SignedRequest, settings: Settings) -> bytes:
    """
    Return the HMAC with which the Concierge has just signed.

    Raises:
        SignatureError: it has not.
    """
    return signatures.verify(
        signed,
        settings.concierge_postback_secret_key,
        datetime.now(UTC),
        settings.concierge_accept_md5,
    )


def check(request: web.Request, body: bytes) -> bytes:
    """
    Make sure that the Concierge has signed *request* with its *body*; return the HMAC.

    Raises:
        PostbackRefused: it has not.
    """
    signed = SignedRequest(request.method, request.raw_path, tuple(request.headers.items()), body)
    try:
        return verify(signed, request.app[keys.SETTINGS])
    except SignatureError as exc:
        _note_refusal(request, exc)
        # One answer for all causes: the sender learns nothing about how close it was.
        raise PostbackRefused("unauthorized", "the signature is not valid", status=401) from exc


def _note_refusal(request: web.Request, refused: SignatureError) -> None:
    """Count the refusal, and log its cause, but no more often than somebody would read it."""
    request.app[keys.METRICS].signature_failures.labels(refused.cause).inc()
    if request.app[keys.OCCASIONS].due(refused.cause, asyncio.get_running_loop().time()):
        log.warning(
            "signature refused",
            request_id=request_id.of(request),
            cause=refused.cause,
            detail=str(refused),
            peer=request.remote,
        )
