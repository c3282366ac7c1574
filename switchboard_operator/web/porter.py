"""Plain postbacks without aiohttp's requests: taken as bytes and answered as bytes."""

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from switchboard_operator import messages, plain_http, signatures
from switchboard_operator.broker.base import Published, Receipt
from switchboard_operator.errors import PostbackRefused, SignatureError
from switchboard_operator.known_head import Recogniser
from switchboard_operator.plain_http import Post, Verdict
from switchboard_operator.web import keys, postback, request_id

# What errors.as_json says of a bug.
_BUG: Final = b'{"error":"internal_error","detail":"something went wrong here"}'

# How an answer begins that says an id, and nothing else.
_PUBLISHED: Final = f"HTTP/1.1 204 No Content\r\n{postback.MESSAGE_ID}: "

Taken = tuple[Published, int]  # what becomes of it, and how many bytes it had

log = structlog.get_logger()


class Porter:
    """
    Takes postbacks and answers them just as `web.postback` does, or leaves them to it.

    It takes only what it need not refuse.
    """

    def __init__(self, app: web.Application) -> None:
        """Serve *app*, which is running."""
        self._broker = app[keys.BROKER]
        self._limits = app[keys.LIMITS]
        self._metrics = app[keys.METRICS]
        self._sample = app[keys.DELIVERY_SAMPLE]
        self._settings = app[keys.SETTINGS]
        self._recogniser = Recogniser()
        self._second = 0
        self._last_fields = ""

    def take(self, data: bytes) -> Taken | Verdict:
        """Publish the postback at the start of *data*, if it is all there."""
        post: Post | Verdict = Verdict.OTHER
        try:
            post = self._recogniser.recognise(data, self._limits.doorstep_bytes)
            if isinstance(post, Verdict):
                return post
            published = self._publish(post)
        except (SignatureError, PostbackRefused):
            return Verdict.OTHER
        except Exception:  # a bug, which the plain way may not have; its key makes it one postback
            log.exception("fast lane failed", request_id=_request_id(post))
            self._metrics.task_failures.inc()
            return Verdict.OTHER
        if isinstance(published, Verdict):
            return published
        self._recogniser.learn(data, post)
        return published, post.size

    def _publish(self, post: Post) -> Published | Verdict:
        hmac = signatures.verify_usual(
            plain_http.TARGET,
            post.fields,
            post.body,
            self._settings.concierge_postback_secret_key,
            time.time(),
        )
        if hmac is None or messages.is_array(post.body):
            return Verdict.OTHER
        postbacks = postback.parse(post.body, hmac, self._settings, self._limits)
        self._sample.accepted(postbacks[0])
        return self._broker.put(postbacks)

    def answer(self, published: Published) -> bytes:
        """Count what became of a postback and return the response that says it."""
        try:
            receipt = published.result() if published.done() else Receipt(confirmed=False)
            if receipt.confirmed and not receipt.repeated and receipt.ids[0]:  # as usual
                self._metrics.postbacks_confirmed.add(1)
                return f"{_PUBLISHED}{receipt.ids[0]}\r\n{self._ending()}\r\n".encode()
            postback.count(receipt, 1, self._metrics)
            status, fields = postback.status(receipt), postback.headers(receipt, single=True)
            return plain_http.answer(status, fields, self._ending())
        except (Exception, asyncio.CancelledError):  # a bug, whose request still gets an answer
            log.exception("answer failed", request_id=request_id.chosen(None))  # it is forgotten
            self._metrics.task_failures.inc()
            status, fields = HTTPStatus.INTERNAL_SERVER_ERROR, {"Content-Type": "application/json"}
            return plain_http.answer(status, fields, self._ending(), _BUG)

    def _ending(self) -> str:
        """Return the fields that aiohttp puts last."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            date = formatdate(now, usegmt=True)
            self._last_fields = f"Date: {date}\r\nServer: {SERVER_SOFTWARE}\r\n"
        return self._last_fields


def _request_id(post: Post | Verdict) -> str:
    fields = dict(post.fields) if isinstance(post, Post) else {}
    return request_id.chosen(fields.get(request_id.HEADER.lower()))
