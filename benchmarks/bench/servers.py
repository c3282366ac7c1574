"""The servers that are compared at work, each a process on the core for servers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.bench.contenders import Contender
from benchmarks.bench.lab import Lab
from benchmarks.bench.processes import on_core
from tests.redis_server import free_port, redis_server
from tests.switchboards import ROOT, variables

LAG = re.compile(r"^switchboard_event_loop_lag_seconds (\S+)$", re.MULTILINE)
STARTING = 30.0  # seconds
STOPPING = 25.0  # seconds; ours promises 20


@dataclass(frozen=True)
class Server:
    """A process that listens on `port`, or will."""

    port: int
    process: asyncio.subprocess.Process
    log: Path

    async def listening(self) -> None:
        """Wait until it takes connections."""
        async with asyncio.timeout(STARTING):
            while True:
                if self.process.returncode is not None:
                    raise RuntimeError(f"a server has ended:\n{self.log.read_text()[-2000:]}")
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def lag(self) -> float:
        """Return how many seconds its event loop was late at worst, of late; NaN if it is mum."""
        headers = {"Authorization": "Bearer the scraper's token"}  # of tests.switchboards
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            client.get(f"http://127.0.0.1:{self.port}/metrics") as response,
        ):
            found = LAG.search(await response.text())
        return float(found[1]) if found else float("nan")

    async def stop(self) -> float:
        """Send it SIGTERM unless it has ended; return the seconds that it took to end."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOPPING)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        return loop.time() - began


@dataclass(frozen=True)
class Side:
    """A contender's instances on a Redis of their own: others would hear what is published."""

    contender: Contender
    servers: list[Server]
    redis_pid: int

    @property
    def server(self) -> Server:
        """Return the instance that load is put on."""
        return self.servers[0]


@asynccontextmanager
async def sides(
    lab: Lab, contenders: Iterable[Contender], instances: int = 1
) -> AsyncIterator[list[Side]]:
    """Run so many *instances* of each contender within the context."""
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(_side(lab, contender, instances))
            for contender in contenders
        ]
        for side in started:
            for server in side.servers:
                await server.listening()
        yield started


@asynccontextmanager
async def _side(lab: Lab, contender: Contender, instances: int) -> AsyncIterator[Side]:
    async with redis_server() as redis:
        about = await redis.call("INFO", "server")
        servers: list[Server] = []
        try:
            for _ in range(instances):
                servers.append(await _start(lab, contender, redis.url))  # noqa: PERF401 - ended below, also if one fails
            yield Side(contender, servers, about["process_id"])
        finally:
            await asyncio.gather(*(server.stop() for server in servers))


async def _start(lab: Lab, contender: Contender, redis_url: str) -> Server:
    port = free_port()
    log = lab.folder / f"{contender.name}-{port}.log"
    environment = {
        **variables(lab.concierge_url, REDISCLOUD_URL=redis_url),
        **contender.variables,
        "SWITCHBOARD_PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    with on_core(lab.server_core), log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *contender.command, env=environment, cwd=lab.folder, stdout=output, stderr=output
        )
    return Server(port, process, log)
