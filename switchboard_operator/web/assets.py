"""The files of web_client/, read once and served from memory with their hash as ETag."""

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiohttp import web

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' https: http:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_SAFETY = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file: its bytes, plain and gzipped, its type and the hash of its content."""

    content: bytes
    gzipped: bytes
    content_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file at *path*."""
        content = path.read_bytes()
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        etag = hashlib.sha256(content).hexdigest()[:16]
        return cls(content, gzip.compress(content, mtime=0), content_type, etag)


class Assets:
    """
    The files under a folder by their path in it.

    Only a name that was there at the start is ever served, so no path can lead outside.
    """

    def __init__(self, folder: Path) -> None:
        """Read every file under *folder*."""
        self._assets = {
            path.relative_to(folder).as_posix(): Asset.read(path) for path in _files(folder)
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
        headers = {**_SAFETY, "ETag": f'"{asset.etag}"', "Cache-Control": "no-cache"}
        if any(tag.value in {asset.etag, "*"} for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        headers["Vary"] = "Accept-Encoding"
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        if zipped:
            headers["Content-Encoding"] = "gzip"
        if asset.content_type == "text/html":
            headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return web.Response(
            body=asset.gzipped if zipped else asset.content,
            content_type=asset.content_type,
            charset="utf-8" if asset.content_type.startswith("text/") else None,
            headers=headers,
        )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
