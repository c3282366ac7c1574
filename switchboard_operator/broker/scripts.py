"""The Lua scripts that run in Redis."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError

from switchboard_operator.broker.link import Link
from switchboard_operator.broker.resp import Command

_COMMENTS_AND_INDENTS = re.compile(r"^ +|^ *--.*\n| --.*$", re.MULTILINE)


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
    text = _COMMENTS_AND_INDENTS.sub("", text)  # some of it goes along with calls
    return Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - Redis's own choice


PUBLISH = _load("publish")
READ = _load("read")
PROVE = _load("prove")
CLAIM = _load("claim")
RELEASE = _load("release")

_LOADING = [("SCRIPT", "LOAD", each.text) for each in (PUBLISH, READ, PROVE, CLAIM, RELEASE)]


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
