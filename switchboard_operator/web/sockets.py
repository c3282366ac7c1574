"""A WebSocket of aiohttp, with the ends tied up that aiohttp leaves loose."""

import asyncio
from contextlib import suppress
from os import dup
from socket import SHUT_WR, SO_SNDBUF, SOL_SOCKET, socket
from struct import pack

from aiohttp import WSMessage, WSMsgType, web

# Frames up to this many times the longest allowed are read to their end, so that the Close frame
# that refuses them is not overtaken by a reset; aiohttp refuses longer ones by their header alone.
READ_AHEAD = 16


class AiohttpSocket:
    """
    Implements `connection.Socket` and reads for `web.chat`.

    aiohttp itself neither answers pings nor Close frames here: one writer does all the sending, and
    what a client says after our Close frame and before its own still counts. Texts arrive as bytes.
    """

    def __init__(self, max_message_bytes: int, subprotocol: str | None = None) -> None:
        """Prepare to take messages of *max_message_bytes*; select *subprotocol*."""
        self._ws = web.WebSocketResponse(
            protocols=() if subprotocol is None else (subprotocol,),
            autoclose=False,
            autoping=False,
            heartbeat=None,
            compress=False,  # a deflate context costs 100 KiB a socket
            decode_text=False,
            max_msg_size=READ_AHEAD * max_message_bytes,
        )
        self._transport: asyncio.Transport
        self._link: socket | None = None

    @property
    def response(self) -> web.StreamResponse:
        """Return what the handler returns, on which cookies may be set before the upgrade."""
        return self._ws

    async def upgrade(self, request: web.Request, send_buffer: int) -> None:
        """
        Answer the upgrade, and bound what the kernel takes for a client that is slow to read.

        Raises HTTPBadRequest if it is none, or the peer has gone.
        """
        try:
            await self._ws.prepare(request)
        except (ConnectionError, ValueError) as exc:
            # The peer has gone, or aiohttp stumbles over a key or a version that is not ASCII.
            raise web.HTTPBadRequest from exc
        if request.transport is None:
            raise web.HTTPBadRequest
        self._transport = request.transport
        with suppress(OSError):  # it is lost already
            link = self._transport.get_extra_info("socket")
            link.setsockopt(SOL_SOCKET, SO_SNDBUF, send_buffer)

    async def receive(self) -> WSMessage:
        """Return the next message; CLOSE, CLOSING, CLOSED and ERROR are the last."""
        return await self._ws.receive()

    async def send(self, frame: bytes) -> None:
        """Send a text frame; wait while the peer's buffers are full."""
        await self._ws.send_frame(frame, WSMsgType.TEXT)

    async def ping(self, payload: bytes) -> None:
        """Send a ping."""
        await self._ws.send_frame(payload, WSMsgType.PING)

    async def pong(self, payload: bytes) -> None:
        """Send a pong."""
        await self._ws.send_frame(payload, WSMsgType.PONG)

    async def close(self, code: int) -> None:
        """Send a Close frame, and go on reading: the library's `close` drops what comes."""
        await self._ws.send_frame(pack("!H", code), WSMsgType.CLOSE)

    def abort(self) -> None:
        """Drop the link; its descriptor is freed whatever is unsent."""
        self._transport.abort()

    def unsent(self) -> int:
        """Return the number of bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def keep_link(self) -> None:
        """
        Keep the link open for `linger`, right after aiohttp has closed the socket on its own.

        A link that is closed with something unread is reset, and a reset overtakes the Close frame.
        """
        with suppress(OSError):  # it is lost already
            link = self._transport.get_extra_info("socket")
            self._link = socket(fileno=dup(link.fileno()))

    async def linger(self, seconds: float) -> None:
        """Read and drop what the peer still sends on a link that was kept, for some *seconds*."""
        if self._link is None:
            return
        with self._link as link, suppress(OSError, TimeoutError):
            link.setblocking(False)
            link.shutdown(SHUT_WR)
            async with asyncio.timeout(seconds):
                loop = asyncio.get_running_loop()
                while await loop.sock_recv(link, 65536):  # noqa: ASYNC110 - it reads, then yields
                    await asyncio.sleep(0)

    def release(self) -> None:
        """Close the link once what is unsent has been sent."""
        self._transport.close()
