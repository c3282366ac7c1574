"""Try what the configuration names, and say of each what answered or what to mend."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from switchboard_operator import banner, diagnosis, signatures
from switchboard_operator.broker import trial
from switchboard_operator.broker.link import LINK_ERRORS
from switchboard_operator.broker.linker import linker
from switchboard_operator.concierge import Concierge, client_session
from switchboard_operator.errors import ConciergeError, SignatureError
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings, variables
from switchboard_operator.signatures import SignedRequest


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
        return Finding("Redis", False, f"{where} {diagnosis.of_redis(exc)}")
    told = f"{where} is {answer.version}; a probe came back in {1000 * answer.seconds:.1f} ms"
    return Finding("Redis", True, told)


async def _concierge(settings: Settings, limits: Limits) -> Finding:
    url, began = settings.concierge_url, monotonic()
    async with client_session(1) as session:
        concierge = Concierge(session, settings, limits, Metrics(""))
        try:
            version = await concierge.ask_version()
        except ConciergeError as exc:
            return Finding("Concierge", False, f"{url} {diagnosis.of_concierge(exc)}")
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
