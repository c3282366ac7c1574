"""The files of web_client/, read once and served from memory with their hash as ETag."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiohttp import web

_SHARED = {  # pages of any origin may load the widget, also those that want to be told so
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_SAFETY = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_TYPES = {  # not the system's table, which differs between machines
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_COMMENT_LINES = re.compile(rb"^[ \t]*(?://[^\n]*|/\*\*(?:[^*]|\*(?!/))*\*/)\n", re.MULTILINE)
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?\s*(?:,|$)")


_SEALED = ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
_CHAT_SOURCES = (
    "script-src 'self'",
    "style-src 'none'",  # the widget's sheet is made by script, which no policy on styles is about
    "connect-src 'self'",
    "img-src 'self' https: http:",
    "require-trusted-types-for 'script'",
)


def page_headers(*sources: str) -> dict[str, str]:
    """Return the headers of a page that can't be framed, and uses nothing but *sources*."""
    return {**_SAFETY, "Content-Security-Policy": "; ".join((*_SEALED, *sources))}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its bytes, plain and gzipped, its type and the hash of its content."""

    content: bytes
    gzipped: bytes
    content_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file at *path*; a script goes without the lines that are for its readers."""
        content = path.read_bytes()
        if path.suffix == ".js":
            content = _COMMENT_LINES.sub(b"", content)
        content_type = _TYPES.get(path.suffix, "application/octet-stream")
        etag = hashlib.sha256(content).hexdigest()[:16]
        return cls(content, gzip.compress(content, mtime=0), content_type, etag)


class Assets:
    """
    The files under some folders by their path there; where several have it, the last one's.

    Only a name that was there at the start is ever served, so no path can lead outside.
    """

    def __init__(self, *folders: Path) -> None:
        """Read every file under *folders*."""
        self._assets = {
            path.relative_to(folder).as_posix(): Asset.read(path)
            for folder in folders
            for path in _files(folder)
        }

    def response(self, name: str, request: web.Request) -> web.Response:
        """
        Return the file called *name*, or 304 if the client has it.

        Raises:
            HTTPNotFound: there is no such file.
        """
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound
        is_page = asset.content_type == "text/html"
        headers = page_headers(*_CHAT_SOURCES) if is_page else _SAFETY | _SHARED
        headers |= {
            "ETag": f'W/"{asset.etag}"',  # weak: the same, gzipped or not
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
        }
        if any(tag.value in {asset.etag, "*"} for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        zipped = _GZIP.search(request.headers.get("Accept-Encoding", "")) is not None
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(
            body=asset.gzipped if zipped else asset.content,
            content_type=asset.content_type,
            charset="utf-8" if asset.content_type.startswith("text/") else None,
            headers=headers,
        )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
