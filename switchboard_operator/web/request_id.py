"""What log lines call a request: the name that its sender or a router gave it, or one of ours."""

import re
import uuid
from typing import Final

from aiohttp import web

HEADER: Final = "X-Request-ID"

_SANE: Final = re.compile(r"[A-Za-z0-9+/=._:-]{1,128}")
_KEY: Final = web.RequestKey("request_id", str)


def of(request: web.Request) -> str:
    """Return the id of *request*, the same each time."""
    if _KEY not in request:
        sent = request.headers.getall(HEADER, [])
        request[_KEY] = chosen(sent[0] if len(sent) == 1 else None)
    return request[_KEY]


def chosen(sent: str | None) -> str:
    """Return the id that was *sent* if it can't harm a log, else a new one."""
    return sent if sent is not None and _SANE.fullmatch(sent) else uuid.uuid4().hex
