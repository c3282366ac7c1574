"""The command line as a process that ends."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.log_guard import PASSED
from tests.switchboards import ROOT

COMMAND = (sys.executable, "-m", "switchboard_operator")
NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Ended:
    """What a process left behind: its exit code and its lines."""

    code: int
    output: list[str]
    errors: list[str]


async def run(
    *arguments: str, cwd: Path, environment: Mapping[str, str | bytes] | None = None
) -> Ended:
    """Run the command line until it ends; it sees these variables and no others of its own."""
    PASSED.variables(environment or {})
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environment or {})},
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    ended = Ended(process.returncode, output.decode().splitlines(), errors.decode().splitlines())
    PASSED.output += ended.errors
    if not {"--print", "--help"}.intersection(arguments):  # which are there to be shown
        PASSED.output += ended.output
    return ended
