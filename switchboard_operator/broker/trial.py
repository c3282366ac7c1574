"""Try a Redis once: is it there, may we write, does what is published come back?"""

import asyncio
import uuid
from dataclasses import dataclass
from time import monotonic

from msgspec import json
from redis.exceptions import ResponseError

from switchboard_operator.broker import channels, keys, scripts
from switchboard_operator.broker.link import Link
from switchboard_operator.broker.linker import OpenLink
from switchboard_operator.broker.publisher import CHECK_LIFETIME
from switchboard_operator.broker.reconnector import ended


@dataclass(frozen=True, slots=True)
class Answer:
    """What a Redis that works says: its `version`, and `seconds` until a probe came back."""

    version: str
    seconds: float


async def ask(open_link: OpenLink, patience: float) -> Answer:
    """
    Do once what a broker does all the time; a probe may take *patience* seconds to come back.

    Raises:
        ResponseError: Redis refuses to do it.
        TimeoutError: it does it, but the probe does not come back.
        LINK_ERRORS: it is not there, or not to be talked to.
    """
    async with open_link() as publishing, open_link() as listening:
        version = await _version(publishing)
        await _write(publishing)
        await listening.subscribe(channels.ANYBODYS)
        return Answer(version, await _time_probe(publishing, listening, patience))


async def _version(link: Link) -> str:
    """Return Redis's version; hosts that let nobody ask for it may have any."""
    try:
        told: bytes = await link.call("INFO", "server")
    except ResponseError:
        return "of unknown version"
    fields = dict(line.partition(":")[::2] for line in told.decode(errors="replace").splitlines())
    return fields.get("redis_version", "of unknown version")


async def _write(link: Link) -> None:
    """Run a script that writes: a replica, a full memory or a rule against it shows here."""
    key = keys.lease(f"~check.{uuid.uuid4().hex}")  # no session's
    [reply] = await scripts.run(link, [scripts.CLAIM.call((key, key), "", 1000 * CHECK_LIFETIME)])
    if isinstance(reply, ResponseError):
        raise reply


async def _time_probe(publishing: Link, listening: Link, patience: float) -> float:
    """Return after how many seconds a probe, addressed to nobody, came back."""
    probe = json.encode({"to": f"{channels.PROBE}{uuid.uuid4().hex}"})
    heard = asyncio.Event()

    def take(_channel: bytes, data: bytes) -> bool:
        if data == probe:
            heard.set()
        return False

    tasks = [asyncio.create_task(listening.listen(take)), asyncio.create_task(heard.wait())]
    try:
        began = monotonic()
        await publishing.call("PUBLISH", channels.ANYBODYS, probe)
        async with asyncio.timeout(patience):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not heard.is_set():
            await tasks[0]  # which has failed
        return monotonic() - began
    finally:
        await ended(tasks)
