"""What a measurement was made on: figures mean little without it."""

import os
import platform
from importlib.metadata import version

from benchmarks.bench.lab import Lab


def about(lab: Lab) -> str:
    """Return a line on the machine and what servers run on."""
    where = f"servers on core {lab.server_core}, Redis and load on core {lab.load_core}"
    runs_on = f"Python {platform.python_version()}, aiohttp {version('aiohttp')}"
    return f"{os.cpu_count()} cores: {where}; {platform.system()} {platform.release()}; {runs_on}"
