"""Links to the Concierge that know, when they end, whether it can have read what was sent."""

import socket
from errno import ECONNRESET, EPIPE
from functools import partial
from struct import unpack_from

import aiohttp
from aiohttp.client_proto import ResponseHandler

_TCP_CLOSE = 7  # net/tcp_states.h in Linux
_UNACKED = 24  # where tcpi_unacked lies in struct tcp_info (linux/tcp.h), a 32-bit number


def connector(limit: int) -> aiohttp.TCPConnector:
    """Return a connector of *limit* links, which tell a reset from an end."""
    made = aiohttp.TCPConnector(limit=limit)
    # aiohttp, which is pinned, has no public way to say what its links are made of.
    made._factory = partial(_Link, loop=made._loop)  # type: ignore[assignment] # a subclass
    return made


class _Link(ResponseHandler):
    def connection_lost(self, exc: BaseException | None) -> None:
        """
        Take an end for a reset if the other side had closed before our request came there.

        The kernel shows us the end first, and the reset that answers our request hides behind it.
        """
        link = self.transport.get_extra_info("socket") if self.transport is not None else None
        if exc is None and link is not None and _came_too_late(link):
            exc = ConnectionResetError(ECONNRESET, "closed before the request arrived")
        super().connection_lost(exc)


def _came_too_late(link: socket.socket) -> bool:
    """
    Tell whether the peer closed before it had all that we sent.

    Its end acknowledges whatever it has received. So if anything is unacknowledged when that end
    is here, or if a reset has followed it, the request met a closed door.
    """
    try:
        if link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in {ECONNRESET, EPIPE}:
            return True
        info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except (OSError, AttributeError):  # not Linux, or not there any more
        return False
    return info[0] == _TCP_CLOSE or unpack_from("=I", info, _UNACKED)[0] > 0
