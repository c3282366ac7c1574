"""A WebSocket client that does just what it is told, so that it can misbehave."""

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from tests.log_guard import PASSED

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a frame, masked as a client must."""
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        head = bytes([size | 0x80])
    elif size < 65536:
        head = bytes([126 | 0x80]) + struct.pack("!H", size)
    else:
        head = bytes([127 | 0x80]) + struct.pack("!Q", size)
    repeated = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ repeated).to_bytes(size, "big")
    return bytes([opcode | (0x80 if final else 0)]) + head + mask + masked


class Link(Protocol):
    """A WebSocket of aiohttp, of either end."""

    def get_extra_info(self, name: str) -> Any:
        """Return the link's "socket", None if it is gone."""


def hang_up(link: Link) -> None:
    """End *link* in both directions, without a Close frame."""
    found = link.get_extra_info("socket")
    if found is not None:
        with socket.socket(fileno=os.dup(found.fileno())) as own:  # uvloop's can't be shut down
            own.shutdown(socket.SHUT_RDWR)


@dataclass
class RawWebSocket:
    """A link on which a WebSocket was opened; nothing is read or answered unasked."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    response: bytes

    @classmethod
    async def open(
        cls, url: str, target: str = "/", headers: str = "", receive_buffer: int | None = None
    ) -> Self:
        """Open a socket; *receive_buffer* bounds what the kernel takes for it, in bytes."""
        address = urlsplit(url)
        link = socket.socket()
        if receive_buffer is not None:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        link.setblocking(False)
        await asyncio.get_running_loop().sock_connect(link, (address.hostname, address.port))
        reader, writer = await asyncio.open_connection(sock=link, limit=2**12)
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n".encode()
        )
        response = await reader.readuntil(b"\r\n\r\n")
        PASSED.raw(response)  # which may set a cookie
        return cls(reader, writer, response)

    async def send(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        """Send a frame, masked as a client must."""
        self.write(opcode, payload, final=final)
        await self.writer.drain()

    def write(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        """Send a frame without waiting for anything."""
        if opcode in {TEXT, BINARY, CLOSE}:
            PASSED.body(payload)
        if not self.writer.is_closing():  # to uvloop, which raises where asyncio drops
            self.writer.write(frame(opcode, payload, final=final))

    async def receive(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            [size] = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            [size] = struct.unpack("!Q", await self.reader.readexactly(8))
        payload = await self.reader.readexactly(size)
        if first & 0x0F == TEXT:
            PASSED.body(payload)
        return first & 0x0F, payload

    async def close_code(self) -> int:
        """Skip to the Close frame and return its code."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                [code] = struct.unpack("!H", payload[:2])
                return int(code)

    async def ended(self) -> None:
        """Wait until the other side has let go of the link."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def abort(self) -> None:
        """Let go of the link without a word."""
        self.writer.transport.abort()
