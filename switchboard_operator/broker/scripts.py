"""The Lua scripts that run in Redis, each on the keys of one session."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from switchboard_operator.broker import resp
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


_MULTI, _EXEC = resp.packed(("MULTI",)), resp.packed(("EXEC",))
_LOADING_PUBLISH = ("SCRIPT", "LOAD", PUBLISH.text)


def in_order(commands: Sequence[Command]) -> list[Command]:
    """Return what runs *commands*, all of PUBLISH, if all is well, and nothing between them."""
    return [*commands] if len(commands) == 1 else [_MULTI, *commands, _EXEC]


def all_well(replies: Sequence[Any]) -> Sequence[Any] | None:
    """Return the replies to the commands of `in_order`, None if not all of them ran."""
    if len(replies) > 1:
        replies = replies[-1]
    if isinstance(replies, list) and all(isinstance(reply, list) for reply in replies):
        return replies
    return None


async def run_in_order(link: Link, commands: Sequence[Command]) -> list[Any]:
    """
    Run *commands*, all of PUBLISH, and let nothing come between them; return the replies.

    Else scripts that were unloaded in their midst, and loaded again by another instance, would turn
    their order round. Raises one of LINK_ERRORS.
    """
    if len(commands) == 1:
        return await run(link, commands)
    replies = await _together(link, commands)
    if isinstance(replies, ResponseError):
        return await _one_by_one(link, commands)
    # Nobody loads a script while EXEC runs: behind the first that Redis does not know none has run.
    unknown = next((n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)), None)
    if unknown is None:
        return replies
    rest = commands[unknown:]
    again = await _together(link, [_LOADING_PUBLISH, *rest])
    if isinstance(again, ResponseError):
        return replies[:unknown] + await _one_by_one(link, rest)
    return replies[:unknown] + again[1:]


async def _together(link: Link, commands: Sequence[Command]) -> list[Any] | ResponseError:
    """Run *commands* in one transaction; if Redis refuses one of them, it has run none."""
    replies: list[Any] | ResponseError
    *_, replies = await link.pipeline([_MULTI, *commands, _EXEC])
    return replies


async def _one_by_one(link: Link, commands: Sequence[Command]) -> list[Any]:
    return [(await run(link, [command]))[0] for command in commands]


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
