"""The outer ends of the wire: a user's socket, and a POST of the bot."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from struct import pack
from typing import Any

import aiohttp
from msgspec import json

from tests.raw import CLOSE, PING, PONG, TEXT, RawWebSocket

LIMIT = 4096  # bytes that asyncio reads ahead
AGAIN = 0.05  # seconds before something is tried again
GONE = (ConnectionError, EOFError)  # what a broken link raises
V1 = "Sec-WebSocket-Protocol: switchboard.v1\r\n"
RESET = pack("ii", 1, 0)  # SO_LINGER: a close resets the link


@asynccontextmanager
async def opened(
    port: int, session: str, headers: str = "", receive_buffer: int | None = None
) -> AsyncIterator[RawWebSocket]:
    """
    Open a socket; it is let go without a word in the end.

    Raises:
        ConnectionError, EOFError: that is, one of GONE.
    """
    # A low limit, so that who stops reading takes next to nothing more.
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
    try:
        if receive_buffer is not None:
            link = writer.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        writer.write(
            f"GET /?session={session} HTTP/1.1\r\nHost: localhost\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n".encode()
        )
        response = await reader.readuntil(b"\r\n\r\n")
        if not response.startswith(b"HTTP/1.1 101 "):
            raise ConnectionRefusedError(response)
        yield RawWebSocket(reader, writer, response)
    finally:
        writer.transport.abort()


async def post(
    client: aiohttp.ClientSession,
    port: int,
    body: bytes,
    headers: Mapping[str, str],
    patience: float,
) -> int | None:
    """Post a signed postback; return the status, None if no answer came."""
    timeout = aiohttp.ClientTimeout(patience)
    try:
        async with client.post(
            f"http://127.0.0.1:{port}/", data=body, headers=headers, timeout=timeout
        ) as response:
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return None


class Line:
    """A user's socket, given up when nothing comes for too long."""

    def __init__(self, socket: RawWebSocket, deadline: asyncio.Timeout, silence: float) -> None:
        """Put *deadline* off by so many seconds of *silence* with each frame on *socket*."""
        self.left = False  # by us
        self._socket = socket
        self._deadline = deadline
        self._silence = silence

    def say(self, frame: Mapping[str, Any]) -> None:
        """Send a frame."""
        self._socket.write(TEXT, json.encode(frame))

    def bear(self) -> None:
        """Put the deadline off, as with a frame that comes."""
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._silence)

    async def hear(self) -> bytes | None:
        """Return the next text; None once both sides have closed."""
        while True:
            opcode, payload = await self._receive()
            if opcode == TEXT:
                return payload
            if opcode == PING and not self.left:
                self._socket.write(PONG, payload)
            elif opcode == CLOSE:
                if not self.left:
                    self._socket.write(CLOSE, payload[:2])
                await self._socket.ended()
                return None

    def leave(self) -> None:
        """Close; what comes before the answer to that can be heard."""
        self.left = True
        self._socket.write(CLOSE, pack("!H", 1000))

    def drop(self, *, reset: bool) -> None:
        """Let go without a word; a *reset* throws away what is on its way."""
        self.left = True
        if reset:
            link = self._socket.writer.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._socket.abort()

    async def close(self) -> list[bytes]:
        """Close, and return the texts that came before the answer to that."""
        self.leave()
        texts = []
        while (text := await self.hear()) is not None:
            texts.append(text)
        return texts

    async def _receive(self) -> tuple[int, bytes]:
        received = await self._socket.receive()
        self.bear()
        return received
