"""Where it is measured: cores, the Concierge's address, a folder; and how much of everything."""

import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench.processes import cores, raise_file_limit


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much there is of everything; times are in seconds."""

    rounds: int = 7
    seconds: float = 1.5  # of a round
    warm_up: float = 2.0
    users: int = 200  # half of them talk, in the other direction
    posters: int = 32
    rates: tuple[int, ...] = (500, 1000, 2000)  # postbacks a second
    burst: int = 20  # messages that a user says at once
    idle: tuple[int, ...] = (1000, 5000, 10_000)  # sockets
    silence: float = 30.0  # one heartbeat, of 25 s, for each socket, and not two
    fleet: tuple[int, ...] = (1, 2, 4)  # instances
    leaving: int = 1000  # sockets of a server that is ended


QUICK = Scale(
    rounds=1, seconds=0.1, warm_up=0.1, users=20, posters=8, rates=(200,), burst=5, idle=(20, 40),
    silence=0.1, fleet=(2,), leaving=20,
)  # fmt: skip


@dataclass
class Lab:
    """What servers and load have in common."""

    scale: Scale
    folder: Path
    concierge: socket.socket  # listens for whichever load runs
    server_core: int
    load_core: int
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def concierge_url(self) -> str:
        """Return where servers post what users say."""
        return f"http://127.0.0.1:{self.concierge.getsockname()[1]}"


@contextmanager
def lab(scale: Scale) -> Iterator[Lab]:
    """Set it up within the context, for which this process moves to the core for load."""
    server_core, load_core = cores()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {load_core})
    raise_file_limit()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            socket.create_server(("127.0.0.1", 0), backlog=1024) as concierge,
        ):
            yield Lab(scale, Path(folder), concierge, server_core, load_core)
    finally:
        os.sched_setaffinity(0, before)
