"""The upgrade of an HTTP link to a WebSocket (RFC 6455, section 4.2)."""

import asyncio
import binascii
import hashlib
from base64 import b64decode, b64encode
from typing import NamedTuple

from aiohttp import HttpVersion11, hdrs, web

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_KEY_BYTES = 16
_VERSIONS = frozenset({"13", "8", "7"})  # the latter are drafts that differ in nothing used here


class Link(NamedTuple):
    """What becomes a WebSocket: a transport, and what the client has sent since the upgrade."""

    transport: asyncio.Transport
    early: bytes


class HandedOver(web.StreamResponse):
    """What a handler returns when the link is no longer aiohttp's to answer on."""

    async def prepare(self, _request: web.BaseRequest) -> None:
        """Tell aiohttp that nobody is there to be answered."""
        raise ConnectionResetError


def accept_key(request: web.Request) -> str:
    """
    Return what answers the key of an upgrade.

    Raises:
        HTTPBadRequest: the request is no upgrade that can be answered.
    """
    key = request.headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
    if request.body_exists:
        request.protocol.close()  # else the body would be read as the next request
        raise web.HTTPBadRequest
    if not (_is_upgrade(request) and _is_key(key)):
        raise web.HTTPBadRequest
    return accepted(key)


def accepted(key: str) -> str:
    """Return what answers *key*, which is valid."""
    digest = hashlib.sha1(key.encode() + _GUID.encode(), usedforsecurity=False).digest()
    return b64encode(digest).decode()


def _is_upgrade(request: web.Request) -> bool:
    options = ",".join(request.headers.getall(hdrs.CONNECTION, [])).lower().split(",")
    return (
        request.version >= HttpVersion11
        and "upgrade" in map(str.strip, options)
        and request.headers.get(hdrs.SEC_WEBSOCKET_VERSION) in _VERSIONS
    )


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def answer(
    accept: str, subprotocol: str | None, cookies: web.StreamResponse | None = None
) -> bytes:
    """Return the response that opens the socket, with the *cookies* set on another response."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    set_cookies = cookies.cookies.values() if cookies is not None else ()
    lines += [cookie.output(header="Set-Cookie:") for cookie in set_cookies]
    return "\r\n".join([*lines, "", ""]).encode()


def take_link(request: web.Request) -> Link:
    """
    Take the link of an upgrade from aiohttp.

    aiohttp keeps four times as much for an open request as an idle socket needs. It is told that
    the link is lost, which ends all that it does about it.

    Raises:
        HTTPBadRequest: the peer has gone.
    """
    protocol, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        raise web.HTTPBadRequest
    early = protocol._message_tail  # aiohttp, which is pinned, has no public way to tell
    protocol.transport = None  # else it would close it
    protocol.connection_lost(None)
    return Link(transport, early)
