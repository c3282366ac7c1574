"""What processes take, and which cores they run on."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cores() -> tuple[int, int]:
    """Return the core for servers and the one for all else; the same if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1], usable[0]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Have processes that are started within the context run on *core*."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """Let this process, and those that it starts, have as many files as may be; return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken; `stat` would count it in hundredths of one."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def resident(pid: int) -> int:
    """Return the memory that a process occupies, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * 1024
    raise ProcessLookupError(pid)
