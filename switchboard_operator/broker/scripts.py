"""The Lua scripts that run in Redis, each on the keys of one session."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from switchboard_operator.broker.link import Link
from switchboard_operator.broker.resp import Command


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest by which Redis knows it once it is loaded."""

    text: str
    sha: str

    def call(self, keys: Sequence[str], *arguments: str | bytes | int) -> Command:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def _load(name: str) -> Script:
    text = Path(__file__).with_name(f"{name}.lua").read_text()
    return Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - Redis's own choice


PUBLISH = _load("publish")
READ = _load("read")
PROVE = _load("prove")
CLAIM = _load("claim")
RELEASE = _load("release")

_LOADING = [("SCRIPT", "LOAD", each.text) for each in (PUBLISH, READ, PROVE, CLAIM, RELEASE)]


async def run_in_order(link: Link, commands: Sequence[Command]) -> list[Any]:
    """
    Run *commands* as `run` does, and let nothing come between them.

    Else scripts that were unloaded in their midst, and loaded again by another instance, would turn
    their order round.
    """
    if len(commands) == 1:
        return await run(link, commands)
    load = ("SCRIPT", "LOAD", PUBLISH.text)
    replies = (await link.pipeline([("MULTI",), load, *commands, ("EXEC",)]))[-1]
    if isinstance(replies, ResponseError):  # it refuses one of them, and so has run none
        return [(await run(link, [command]))[0] for command in commands]
    return list(replies[1:])


async def run(link: Link, commands: Sequence[Command]) -> list[Any]:
    """
    Run *commands* in one go; return the replies, errors among them.

    Scripts that Redis does not know are loaded and run after all others. Raises one of LINK_ERRORS.
    """
    replies = await link.pipeline(commands)
    unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        await link.pipeline(_LOADING)
        again = await link.pipeline([commands[place] for place in unknown])
        for place, reply in zip(unknown, again, strict=True):
            replies[place] = reply
    return replies


def raise_read_only(replies: Sequence[Any]) -> None:
    """Raise the first of *replies* by which a replica refuses to write: a ReadOnlyError."""
    for reply in replies:
        if isinstance(reply, ReadOnlyError):
            raise reply
