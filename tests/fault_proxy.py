"""A way to a port of loopback on which chance delays links, cuts them, or stops one direction."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from random import Random
from struct import pack
from typing import Self

READ = 65536  # bytes at once
RESET = pack("ii", 1, 0)  # SO_LINGER: a close resets the link


class Kind(Enum):
    """What befalls a link."""

    NONE = "none"
    CUT = "cut"  # both ends see a reset
    DEAF = "deaf"  # from then on nothing gets from the server to the client, not even an end
    MUTE = "mute"  # nor from the client to the server


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    What may befall links: one of *kinds*, each as likely as the others.

    It sets in after up to *within* bytes, those of both directions together. What is read waits up
    to *delay* seconds, the same on all of a link, before it goes on.
    """

    kinds: Sequence[Kind]
    within: int = 5000
    delay: float = 0.0


NO_FAULTS = Faults(kinds=[Kind.NONE])


class FaultProxy:
    """
    Carries bytes to *target* and back, but as *faults* have it; *chance* decides.

    `met` counts what has set in. *target* is asked for its port each time, since a server that is
    started again may have another.
    """

    def __init__(self, target: Callable[[], int], faults: Faults, chance: Random) -> None:
        self.port = 0
        self.met: Counter[Kind] = Counter()
        self._target = target
        self._faults = faults
        self._chance = chance
        self._links: set[_Link] = set()
        self._ended = asyncio.Event()

    def calm(self) -> None:
        """Let nothing befall links that come from now on."""
        self._faults = NO_FAULTS

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Carry within the context; at its end all links are reset."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            while self._links:
                for link in self._links:
                    link.reset()
                self._ended.clear()
                await self._ended.wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, _End(reader, writer), *self._draw())
        self._links.add(link)
        try:
            await link.carry(self._target())
        finally:
            self._links.remove(link)
            self._ended.set()

    def _draw(self) -> tuple[Kind, int, float]:
        faults, chance = self._faults, self._chance
        kind = chance.choice(faults.kinds)
        return kind, chance.randint(1, faults.within), chance.uniform(0, faults.delay)


@dataclass(frozen=True)
class _End:
    """One end of a link."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def give(self, data: bytes) -> None:
        """Send *data*; whether the end is gone is seen by whoever reads from it."""
        if data and not self.writer.is_closing():
            with suppress(ConnectionError):
                self.writer.write(data)
                await self.writer.drain()

    def reset(self) -> None:
        link = self.writer.get_extra_info("socket")
        if link is not None and link.fileno() >= 0:  # else it is closed already
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


class _Link:
    """A client, the server it wants to talk to, and what befalls them."""

    def __init__(
        self, proxy: FaultProxy, client: _End, kind: Kind, within: int, delay: float
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._ends = [client]
        self._kind = kind
        self._left = within  # bytes until it befalls
        self._delay = delay

    async def carry(self, port: int) -> None:
        """Carry to *port* and back until both ends are gone."""
        try:
            server = _End(*await asyncio.open_connection("127.0.0.1", port))
        except ConnectionError:
            self.reset()
            return
        self._ends.append(server)
        await asyncio.gather(
            self._pump(self._client, server, Kind.MUTE),
            self._pump(server, self._client, Kind.DEAF),
        )
        for end in self._ends:
            end.writer.close()

    def reset(self) -> None:
        for end in self._ends:
            end.reset()

    async def _pump(self, source: _End, sink: _End, hole: Kind) -> None:
        """Carry from *source* to *sink*, unless the link has become a *hole*."""
        try:
            while data := await source.reader.read(READ):
                await asyncio.sleep(self._delay)
                await sink.give(self._through(data, hole))
                if self._kind is Kind.CUT and not self._left:
                    self.reset()
        except ConnectionError:
            if not self._swallows(hole):
                self.reset()
        if not self._swallows(hole):
            sink.writer.close()

    def _through(self, data: bytes, hole: Kind) -> bytes:
        """Return what of *data* goes on."""
        stopped = self._kind in {Kind.CUT, hole}
        through = data[: self._left] if stopped else data
        before, self._left = self._left, max(0, self._left - len(data))
        if before and not self._left and self._kind is not Kind.NONE:
            self._proxy.met[self._kind] += 1
        return through

    def _swallows(self, hole: Kind) -> bool:
        return self._kind is hole and not self._left
