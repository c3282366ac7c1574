"""
HTTP at its plainest: one kind of POST, recognised by its bytes, and the bytes of an answer.

Whatever is unusual, or could be read in two ways, is not recognised: what it means is for the one
parser to say that reads everything.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

MOST_HEAD: Final = 8 * 1024  # bytes
MOST_FIELDS: Final = 64

METHOD: Final = "POST"
TARGET: Final = "/"

_REQUEST_LINE: Final = f"{METHOD} {TARGET} HTTP/1.1\r\n".encode()
_HEAD_END: Final = b"\r\n\r\n"
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_LENGTH: Final = re.compile(r"[1-9][0-9]{0,8}")
# Fields that change how a request is read, or what becomes of its connection.
_NOT_PLAIN: Final = frozenset(
    (
        "content-encoding",
        "expect",
        "proxy-connection",
        "sec-websocket-key1",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# A plus sign would stand for a space.
_UPGRADE_LINE: Final = re.compile(rb"GET /(?:\?session=([A-Za-z0-9._:@/=-]{1,128}))? HTTP/1\.1\r\n")
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64
_NOT_BARE: Final = frozenset(("content-length", "cookie"))
_STATUS_LINES: Final = {each: f"HTTP/1.1 {each.value} {each.phrase}\r\n" for each in HTTPStatus}


class Verdict(Enum):
    """What bytes are that are no plain POST."""

    MORE = auto()  # they may become one
    OTHER = auto()


class Post(NamedTuple):
    """A POST to `/`, *size* bytes in all; the names of its fields are in lower case."""

    fields: Mapping[str, str]
    body: bytes
    size: int


class Upgrade(NamedTuple):
    """
    A GET of `/` that asks for a WebSocket, *size* bytes in all, for a *session* or for "".

    The names of its fields are in lower case.
    """

    session: str
    fields: Mapping[str, str]
    size: int


def recognise(data: bytes | bytearray, most: int) -> Post | Verdict:
    """Look for a POST at the start of *data*; its body has 1 to *most* bytes."""
    end = data.find(_HEAD_END, 0, MOST_HEAD)
    if end < 0:
        begun = len(data) < MOST_HEAD and _REQUEST_LINE.startswith(data[: len(_REQUEST_LINE)])
        return Verdict.MORE if begun else Verdict.OTHER
    fields = _fields(data[len(_REQUEST_LINE) : end + 2]) if data.startswith(_REQUEST_LINE) else {}
    length, start = _length(fields), end + len(_HEAD_END)
    if not 0 < length <= most:
        return Verdict.OTHER
    if len(data) < start + length:
        return Verdict.MORE
    return Post(fields, bytes(data[start : start + length]), start + length)


def recognise_upgrade(data: bytes | bytearray) -> Upgrade | Verdict:
    """Look for a whole upgrade at the start of *data*; who has a cookie is somebody else's."""
    line, end = _UPGRADE_LINE.match(data), data.find(_HEAD_END, 0, MOST_HEAD)
    if line is None or end < 0:
        return Verdict.OTHER
    fields = _fields(data[line.end() : end + 2])
    if not _asks_for_websocket(fields):
        return Verdict.OTHER
    return Upgrade((line[1] or b"").decode(), fields, end + len(_HEAD_END))


def _asks_for_websocket(fields: Mapping[str, str]) -> bool:
    return (
        fields.get("upgrade", "").lower() == "websocket"
        and "upgrade" in fields.get("connection", "").lower().split(", ")
        and fields.get("sec-websocket-version") == "13"
        and _KEY.fullmatch(fields.get("sec-websocket-key", "")) is not None
        and "host" in fields
        and _NOT_PLAIN.intersection(fields) == {"upgrade"}
        and _NOT_BARE.isdisjoint(fields)
    )


def _fields(lines: bytes | bytearray) -> dict[str, str]:
    """Return the fields in *lines*, each of which ends with CRLF; none unless all are plain."""
    if not lines.isascii():
        return {}
    text = lines.decode()
    if ":  " in text or " \r\n" in text:  # white space around a value, or no value
        return {}
    *split, _ = text.split("\r\n")
    if len(split) > MOST_FIELDS or not "".join(split).isprintable():
        return {}
    fields: dict[str, str] = {}
    for line in split:
        name, colon, value = line.partition(": ")
        fields[_lower(name) if colon else ""] = value
    return fields if len(fields) == len(split) and "" not in fields else {}


@lru_cache(maxsize=256)  # clients use few
def _lower(name: str) -> str:
    return name.lower() if _NAME.fullmatch(name) else ""


def _length(fields: Mapping[str, str]) -> int:
    """Return the length of the body; 0 unless *fields* are those of a plain POST."""
    length = _LENGTH.fullmatch(fields.get("content-length", ""))
    lasting = fields.get("connection", "keep-alive").lower() == "keep-alive"
    if length is None or not lasting or "host" not in fields or not _NOT_PLAIN.isdisjoint(fields):
        return 0
    return int(length[0])


def answer(status: HTTPStatus, fields: Mapping[str, str], ending: str, body: bytes = b"") -> bytes:
    """Return a response; *ending* are the fields that come last, each with its CRLF."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
    length = "" if status is HTTPStatus.NO_CONTENT else f"Content-Length: {len(body)}\r\n"
    return f"{_STATUS_LINES[status]}{lines}{length}{ending}\r\n".encode() + body
