"""The Lua scripts that run in Redis, each on the keys of one session."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError

from switchboard_operator.broker.link import Command, Link


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


async def run(link: Link, commands: Sequence[Command]) -> list[Any]:
    """
    Run *commands* in their order, in one go; return the replies, errors among them.

    From the first script on that Redis does not know, all are run again: they bear that. Raises one
    of LINK_ERRORS.
    """
    replies = await link.pipeline(commands)
    unknown = next((at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)), -1)
    if unknown < 0:
        return replies
    await link.pipeline(_LOADING)
    return replies[:unknown] + await link.pipeline(commands[unknown:])


def raise_read_only(replies: Sequence[Any]) -> None:
    """Raise the first of *replies* by which a replica refuses to write: a ReadOnlyError."""
    for reply in replies:
        if isinstance(reply, ReadOnlyError):
            raise reply
