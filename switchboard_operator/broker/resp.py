"""What goes to Redis and comes from it: commands, replies, and errors among them."""

from collections.abc import Callable

import hiredis
from redis.exceptions import (
    BusyLoadingError,
    InvalidResponse,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

Command = tuple[str | bytes | int, ...] | bytes  # bytes: as it goes out

# hiredis's own types know of one argument only.
_pack: Callable[[tuple[str | bytes | int, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment] # see above

NOTHING = object()  # no whole reply is there yet
# A Redis that is still loading its data is none yet.
_ERRORS: dict[str, type[RedisError]] = {
    "LOADING": BusyLoadingError,
    "NOSCRIPT": NoScriptError,
    "READONLY": ReadOnlyError,
}


def packed(command: Command) -> bytes:
    """Return *command* as it goes out."""
    return command if isinstance(command, bytes) else _pack(command)


def parts(*arguments: str | bytes | int) -> bytes:
    """Return some of a command's parts as they go out, without their number, to be put together."""
    return _pack(arguments).partition(b"\r\n")[2]


def reader() -> hiredis.Reader:
    """Return what makes replies of bytes, or NOTHING; it raises InvalidResponse."""
    return hiredis.Reader(protocolError=InvalidResponse, replyError=_error, notEnoughData=NOTHING)


def _error(text: str) -> RedisError:
    """Return the exception that an error of Redis's stands for."""
    return _ERRORS.get(text.partition(" ")[0], ResponseError)(text)
