"""Try what the configuration names, and say of each what answered or what to mend."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from socket import gaierror
from time import monotonic

from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from switchboard_operator import banner, signatures
from switchboard_operator.broker import trial
from switchboard_operator.broker.link import LINK_ERRORS
from switchboard_operator.broker.linker import linker
from switchboard_operator.concierge import Concierge, client_session
from switchboard_operator.errors import ConciergeError, SignatureError
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings, variables
from switchboard_operator.signatures import SignedRequest

_AUTHENTICATION = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))
_REDIS_FAULTS = (
    (gaierror, "has a name that can't be looked up; mend REDISCLOUD_URL"),
    (
        ssl.SSLCertVerificationError,
        "shows a certificate that is not trusted; name its issuer in SSL_CERT_FILE, or set"
        " REDIS_TLS_VERIFY=0",
    ),
    (
        (ssl.SSLError, InvalidResponse),
        "talks otherwise; should REDISCLOUD_URL begin with redis:// or rediss://?",
    ),
    (ConnectionRefusedError, "refuses connections; start it, or mend REDISCLOUD_URL"),
    (AuthenticationError, "refuses user and password; mend them in REDISCLOUD_URL"),
    (
        (TimeoutError, RedisTimeoutError),
        "does not answer in time; is it reachable from here, and is rediss:// right?",
    ),
)
_CONCIERGE_FAULTS = {
    "connect": "can't be connected to; start it, or mend CONCIERGE_URL",
    "timeout": "does not answer in time; is it at CONCIERGE_URL, and well?",
    "link_lost": "does not answer in HTTP; is CONCIERGE_URL its address?",
    "empty": "answers, but with no version; is CONCIERGE_URL its address?",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of trying one thing; if it is not `well`, `told` says what to mend."""

    what: str
    well: bool
    told: str

    def __str__(self) -> str:
        """Show it in a line."""
        return f"{'ok  ' if self.well else 'FAIL'}  {self.what:<13}  {self.told}"


async def findings(settings: Settings, limits: Limits) -> list[Finding]:
    """Try everything; it takes some seconds at most, whatever does not answer."""
    outside = await asyncio.gather(_redis(settings, limits), _concierge(settings, limits))
    return [*outside, _signing_key(settings)]


async def _redis(settings: Settings, limits: Limits) -> Finding:
    where = banner.broker(settings)
    if not settings.rediscloud_url:
        return Finding("Redis", True, f"not used; {where}")
    open_link = linker(settings.rediscloud_url, limits, verify=settings.redis_tls_verify)
    try:
        answer = await trial.ask(open_link, limits.probe_answer)
    except LINK_ERRORS as exc:
        return Finding("Redis", False, f"{where} {_redis_fault(exc)}")
    told = f"{where} is {answer.version}; a probe came back in {1000 * answer.seconds:.1f} ms"
    return Finding("Redis", True, told)


async def _concierge(settings: Settings, limits: Limits) -> Finding:
    url, began = settings.concierge_url, monotonic()
    async with client_session(1) as session:
        concierge = Concierge(session, settings, limits, Metrics(""))
        try:
            version = await concierge.ask_version()
        except ConciergeError as exc:
            return Finding("Concierge", False, f"{url} {_concierge_fault(exc)}")
    told = f"{url} is {version!r}; it answered in {1000 * (monotonic() - began):.1f} ms"
    return Finding("Concierge", True, told)


def _signing_key(settings: Settings) -> Finding:
    """Sign as the Concierge would, with each key, and take that as we would."""
    keys = settings.concierge_postback_secret_key
    example = variables()["CONCIERGE_POSTBACK_SECRET_KEY"].example
    faults = [
        *(f"key {n} of {len(keys)}: {exc}" for n, exc in _refused(keys)),
        *([] if example not in keys else ["it is still the example's; choose one of your own"]),
    ]
    told = f"{len(keys)} of {len(keys)} signed a postback that we would take"
    return Finding("Signing key", not faults, "; ".join(faults) or told)


def _refused(keys: tuple[str, ...]) -> Iterator[tuple[int, SignatureError]]:
    body, now = b'{"to":"nobody"}', datetime.now(UTC)
    for number, key in enumerate(keys, start=1):
        headers = signatures.sign("POST", "/", "application/json", body, key, now)
        try:
            signatures.verify(SignedRequest("POST", "/", tuple(headers.items()), body), keys, now)
        except SignatureError as exc:
            yield number, exc


def _redis_fault(error: Exception) -> str:
    """Say what is wrong, in words of ours: an error's own may quote the URL and its password."""
    known = next(filter(None, map(_known_redis_fault, _causes(error))), None)
    return known or f"fails ({type(error).__name__}); is REDISCLOUD_URL the address of a Redis?"


def _known_redis_fault(error: BaseException) -> str | None:
    if isinstance(error, ResponseError):
        return _refusal(str(error).partition(" ")[0])
    return next((words for kinds, words in _REDIS_FAULTS if isinstance(error, kinds)), None)


def _refusal(code: str) -> str:
    """Say what Redis means by *code*, the first word of its error."""
    if code in _AUTHENTICATION:
        return f"lets us do too little ({code}); mend user and password in REDISCLOUD_URL"
    if code == "READONLY":
        return "is a replica (READONLY); name the master in REDISCLOUD_URL"
    return f"refuses ({code}); look into its log, and at the database's number in REDISCLOUD_URL"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go from the innermost cause of *error*, which knows best, to itself."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _causes(inner)
    yield error


def _concierge_fault(error: ConciergeError) -> str:
    return _CONCIERGE_FAULTS.get(error.kind) or (
        f"answers {error.kind.replace('_', ' ')} to GET /version; is CONCIERGE_URL its address?"
    )
