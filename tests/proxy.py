"""A link that can be cut, or go quiet in one direction, between two ends on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self


class Proxy:
    """Carries bytes to a port of loopback and back, as long as it is let."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._answers = asyncio.Event()
        self._answers.set()
        self._deafened: set[asyncio.StreamWriter] = set()
        self._subscribers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def _carry(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            server, there = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            back.transport.abort()
            return
        self._writers += [back, there]
        await asyncio.gather(self._forth(client, there, back), self._back(server, back))

    async def _forth(
        self, client: asyncio.StreamReader, there: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while (data := await client.read(65536)) and not there.is_closing():
                if b"SUBSCRIBE" in data:
                    self._subscribers.add(back)
                there.write(data)
                await there.drain()
        there.close()

    async def _back(self, server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await server.read(65536):
                await self._answers.wait()
                if back not in self._deafened and not back.is_closing():
                    back.write(data)
                    await back.drain()
        back.close()

    def silence(self) -> None:
        """Carry no more answers for now; what is sent goes through."""
        self._answers.clear()

    def restore(self) -> None:
        """Carry everything again."""
        self._answers.set()

    def silence_subscribers(self) -> None:
        """Carry nothing more to those that have subscribed; others, and later ones, are well."""
        self._deafened |= self._subscribers

    def cut(self) -> None:
        """Reset every link."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Carry within the context."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
