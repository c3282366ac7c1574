"""A real Redis of our own on a free port of loopback, with plugs to pull."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from tests.ports import free_port as free_port  # noqa: PLC0414 - to be had here, too


class RedisServer:
    """A redis-server process that can be killed, frozen and started again on the same port."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Self:
        """Start it, and wait until it answers."""
        self._process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
            "--save", "", "--appendonly", "no", *self._options,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            try:
                await self.call("PING")
            except AuthenticationError:  # it answers
                return self
            except (RedisError, OSError):
                await asyncio.sleep(0.02)
            else:
                return self

    async def kill(self) -> None:
        """End it without a word, as a crash would."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def call(self, *command: Any) -> Any:
        """Do what redis-cli would."""
        async with Redis(port=self.port, host="127.0.0.1", socket_timeout=60) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call] # lacks it

    async def publish(self, message: str | bytes) -> int:
        """Publish on the switchboards' channel, as anybody may."""
        return int(await self.call("PUBLISH", "bot-message", message))


@asynccontextmanager
async def redis_server(options: Sequence[str] = ()) -> AsyncIterator[RedisServer]:
    """Run a Redis within the context."""
    server = await RedisServer(*options).start()
    try:
        yield server
    finally:
        await server.kill()
