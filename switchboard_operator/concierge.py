"""The Concierge as an HTTP server: post a user message to it, ask for its version."""

import asyncio
from datetime import UTC, datetime
from errno import ECONNRESET, EPIPE
from http import HTTPStatus
from time import monotonic
from typing import Final

import aiohttp
from yarl import URL

from switchboard_operator import signatures
from switchboard_operator.concierge_links import connector
from switchboard_operator.errors import (
    ConciergeError,
    ConciergeRejected,
    ConciergeTimeout,
    ConciergeUnavailable,
)
from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings

_JSON: Final = "application/json"
_SAFE_TO_REPEAT: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_LONGEST_VERSION = 100  # characters


class Concierge:
    """
    Posts user messages, each signed, and tells by its errors what may have become of one.

    It keeps connections alive but never follows a redirect, stores a cookie or reads a proxy
    variable.
    """

    def __init__(
        self, session: aiohttp.ClientSession, settings: Settings, limits: Limits, metrics: Metrics
    ) -> None:
        """Use *session* for all requests to the URL in *settings*."""
        self._session = session
        self._incoming = URL(f"{settings.concierge_url}/incoming/postback", encoded=True)
        self._version = URL(f"{settings.concierge_url}/version", encoded=True)
        self._secret = settings.concierge_postback_secret_key[0]
        self._idempotent = settings.concierge_idempotent
        self._metrics = metrics
        self._timeout = aiohttp.ClientTimeout(
            total=settings.concierge_timeout,
            # The shorter one, so that a failed connection is known for what it is: safe to repeat.
            connect=min(limits.concierge_connect, 0.8 * settings.concierge_timeout),
            ceil_threshold=3600,  # aiohttp rounds longer times up to whole seconds
        )
        self._version_timeout = aiohttp.ClientTimeout(total=limits.version_timeout)
        self._version_lifetime = limits.version_lifetime
        self._reset_window = limits.reset_window
        self._known_version: str | None = None
        self._version_until = float("-inf")
        self._asking = asyncio.Lock()

    async def post(self, message: UserMessage) -> None:
        """
        Post *message*; return when the Concierge has accepted it.

        Raises:
            ConciergeUnavailable: it can't have been processed, so posting again is safe.
            ConciergeTimeout: it may have been processed.
            ConciergeRejected: it was refused for good.
        """
        started = monotonic()
        try:
            status = await self._status_of(message)
            self._metrics.concierge_seconds.observe(monotonic() - started)
            self._judge(status)
        except ConciergeError as exc:
            self._metrics.concierge_errors.labels(exc.kind).inc()
            raise

    async def version(self) -> str | None:
        """Return what the Concierge calls its version, some seconds old; None if it fails."""
        async with self._asking:  # however many want to know, one asks
            if monotonic() >= self._version_until:
                try:
                    self._known_version = await self.ask_version()
                except ConciergeError:
                    self._known_version = None
                self._version_until = monotonic() + self._version_lifetime
        return self._known_version

    async def ask_version(self) -> str:
        """
        Ask the Concierge what it calls its version.

        Raises:
            ConciergeError: it does not say.
        """
        try:
            async with self._session.get(
                self._version, timeout=self._version_timeout, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise ConciergeRejected(f"status_{response.status}")
                return _shown(await response.content.read(4 * _LONGEST_VERSION))
        except aiohttp.ClientConnectorError as exc:
            raise ConciergeUnavailable("connect") from exc
        except TimeoutError as exc:
            raise ConciergeUnavailable("timeout") from exc
        except aiohttp.ClientError as exc:
            raise ConciergeUnavailable("link_lost") from exc

    async def _status_of(self, message: UserMessage) -> int:
        headers = self._headers(message)
        started = monotonic()
        try:
            async with self._session.post(
                self._incoming,
                data=message.body,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return response.status
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as exc:
            raise ConciergeUnavailable("connect") from exc
        except TimeoutError as exc:
            raise ConciergeTimeout("timeout") from exc
        except aiohttp.ClientError as exc:
            raise self._link_lost(exc, monotonic() - started) from exc

    def _link_lost(self, error: aiohttp.ClientError, after: float) -> ConciergeError:
        """
        Tell whether a Concierge whose link broke can have read the message.

        A kernel resets a link, rather than end it, when bytes on it were not read by the program:
        that program, stopped or killed, never had the whole request. A reset that comes late may
        be a router's, who knows nothing of that.
        """
        unsent = isinstance(error, aiohttp.ClientConnectionResetError)  # it was closing already
        reset = unsent or (isinstance(error, OSError) and error.errno in {ECONNRESET, EPIPE})
        if reset and after < self._reset_window:
            return ConciergeUnavailable("link_reset")
        return self._maybe_processed("link_lost")

    def _judge(self, status: int) -> None:
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        if status in _SAFE_TO_REPEAT:
            raise ConciergeUnavailable(f"status_{status}")
        if status == HTTPStatus.BAD_GATEWAY:
            raise self._maybe_processed("status_502")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ConciergeTimeout("status_5xx")
        raise ConciergeRejected("status_4xx" if status >= HTTPStatus.BAD_REQUEST else "status_3xx")

    def _maybe_processed(self, kind: str) -> ConciergeError:
        return ConciergeUnavailable(kind) if self._idempotent else ConciergeTimeout(kind)

    def _headers(self, message: UserMessage) -> dict[str, str]:
        headers = signatures.sign(
            "POST", self._incoming.raw_path_qs, _JSON, message.body, self._secret, datetime.now(UTC)
        )
        headers["Idempotency-Key"] = f"{message.session}:{message.key}"
        headers["X-Request-ID"] = message.key
        return headers


def _shown(version: bytes) -> str:
    """Return *version* as far as there is room for it. Raises ConciergeRejected: there is none."""
    text = version.decode("utf-8", "replace").strip()[:_LONGEST_VERSION]
    if not text:
        raise ConciergeRejected("empty")
    return text


def client_session(concurrency: int) -> aiohttp.ClientSession:
    """Return a session for *concurrency* POSTs at once; close it in the end."""
    return aiohttp.ClientSession(
        # More connections than POSTs: the limit that counts, and is fair, is the uplink's.
        connector=connector(concurrency + 10),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding"),
        headers={"User-Agent": "switchboard-operator"},
    )
