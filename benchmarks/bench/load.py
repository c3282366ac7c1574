"""The load generator: made by the C compiler if need be, then told what to do."""

import asyncio
import json
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

SOURCES = Path(__file__).parent / "generator"
PROGRAM = Path(__file__).parent / "build" / "load"
PATIENCE = 60.0  # seconds beyond its own time that it may take
NANOSECONDS = 1e9


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What load to put on; see options.h for the meaning of each."""

    sockets: int = 200
    posters: int = 0
    rate: int = 0
    batch: int = 1
    messages: int = 0
    window: int = 1
    delay: int = 0
    seconds: float = 1.0
    patience: float = 3.0
    until_closed: bool = False


class Sent(NamedTuple):
    """A request of the bot or a message of a user: times in seconds, 0 for never."""

    due: float
    answered: float
    status: int


class Received(NamedTuple):
    """A message that came, to a user or from one."""

    at: float
    message: int
    user: int


@dataclass(frozen=True)
class Events:
    """All that was sent, by number, and all that was received, in order."""

    sent: list[Sent]
    received: list[Received]

    @classmethod
    def read(cls, path: Path) -> "Events":
        """Read the file that the generator writes."""
        data = path.read_bytes()
        sent, _ = struct.unpack_from("<qq", data)
        received = 16 + sent * 24
        return cls(
            [
                Sent(due / NANOSECONDS, answered / NANOSECONDS, status)
                for due, answered, status, _ in struct.iter_unpack("<qqii", data[16:received])
            ],
            [
                Received(at / NANOSECONDS, message, user)
                for at, message, user in struct.iter_unpack("<qii", data[received:])
            ],
        )


def build() -> None:
    """Compile the generator, unless it is there and no older than its sources."""
    sources = sorted(SOURCES.iterdir())
    newest = max(path.stat().st_mtime for path in sources)
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= newest:
        return
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("the load generator needs a C compiler, cc")
    PROGRAM.parent.mkdir(exist_ok=True)
    files = [str(path) for path in sources if path.suffix == ".c"]
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(PROGRAM), *files]
    subprocess.run(command, check=True)  # noqa: S603 - our own sources


class Load:
    """A generator whose sockets are open, as `gathered` tells."""

    def __init__(self, process: asyncio.subprocess.Process, plan: Plan) -> None:
        """Drive *process*, which follows *plan*."""
        self.gathered: dict[str, Any] = {}
        self._process = process
        self._plan = plan

    async def gather(self) -> None:
        """Wait until its sockets are open."""
        self.gathered = await self._line(PATIENCE)

    async def go(self) -> dict[str, Any]:
        """Put the load on; return its counts when all is over."""
        self._tell()
        return await self._line(self._plan.seconds + self._plan.patience + PATIENCE)

    async def finish(self) -> None:
        """Have it close its sockets."""
        if self._process.returncode is None:
            self._tell()
        await asyncio.wait_for(self._process.wait(), PATIENCE)

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def _line(self, patience: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), patience)
        if not line:
            raise RuntimeError(f"the load generator ended with {await self._process.wait()}")
        return dict(json.loads(line))


@asynccontextmanager
async def load(plan: Plan, files: Sequence[int] = (), **more: Any) -> AsyncIterator[Load]:
    """Run a generator within the context; *more* are options, *files* descriptors it needs."""
    options = asdict(plan) | more
    for name, option in (("seconds", "milliseconds"), ("patience", "patience")):
        options[option] = options.pop(name) * 1000
    arguments = [
        f"{name}={value if isinstance(value, str) else int(value)}"
        for name, value in options.items()
    ]
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        pass_fds=files,
    )  # fmt: skip
    running = Load(process, plan)
    try:
        await running.gather()
        yield running
        await running.finish()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
