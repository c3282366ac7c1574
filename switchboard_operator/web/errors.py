"""Every refusal as the same JSON: `{"error": code, "detail": text}`."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import hdrs, web

from switchboard_operator import logs
from switchboard_operator.errors import PostbackRefused, RequestRefused
from switchboard_operator.web import keys, request_id

RETRY_AFTER = "5"  # seconds, where trying again will help

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(status: int, code: str, detail: str, **headers: str) -> web.Response:
    """Return the response that refuses a request with *code* and says why in *detail*."""
    body = msgspec.json.encode({"error": code, "detail": detail})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        named[hdrs.RETRY_AFTER] = RETRY_AFTER
    return web.Response(status=status, body=body, content_type="application/json", headers=named)


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Ask for the body of who waits to be asked; aiohttp's own answer fails on odd bytes."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer
        return None
    return refusal(417, "expectation_failed", "only 100-continue can be expected")


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn our refusals, aiohttp's own (404, 405, 413…) and bugs of ours into that JSON."""
    try:
        return await handler(request)
    except RequestRefused as exc:
        _count(request, exc)
        return refusal(exc.status, exc.code, exc.detail)
    except web.HTTPException as exc:
        code = HTTPStatus(exc.status).phrase.lower().replace(" ", "_")
        kept = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else {}
        return refusal(exc.status, code, exc.reason, **kept)
    except Exception:  # the last line of defence: a bug, logged with its traceback
        called = request_id.of(request)
        log.exception(
            "request failed", request_id=called, method=request.method, path=_pattern(request)
        )
        return refusal(500, "internal_error", "something went wrong here")


def _pattern(request: web.Request) -> str:
    """Return the path without what varies in it, which may name a user."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def _count(request: web.Request, refused: RequestRefused) -> None:
    metrics = request.app[keys.METRICS]
    if isinstance(refused, PostbackRefused):
        metrics.postbacks.labels(refused.code).inc()
        _tell(request, refused)
    else:
        metrics.rejects.labels(refused.code).inc()
        if logs.debugging():
            called = request_id.of(request)
            log.debug(
                "request refused", request_id=called, code=refused.code, detail=refused.detail
            )


def _tell(request: web.Request, refused: PostbackRefused) -> None:
    """Log that a postback was not taken, so perhaps is lost, once in a while for each cause."""
    if refused.status == HTTPStatus.UNAUTHORIZED:  # it may be anybody's; logged with its cause
        return
    if request.app[keys.OCCASIONS].due(refused.code, asyncio.get_running_loop().time()):
        log.warning(
            "postback refused",
            request_id=request_id.of(request),
            code=refused.code,
            detail=refused.detail,
        )
