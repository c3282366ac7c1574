"""A small rolling restart: two processes, one Redis, users who come back, a bot that goes on."""

import asyncio
import sys

import pytest

from tests.switchboards import ROOT


@pytest.mark.slow
async def test_nobody_notices_a_rolling_restart() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.rolling_restart", "--sockets", "60", "--rate", "50",
        "--drain", "1", "--pause", "2",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip

    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert b"lost 0, doubled 0, reordered 0" in output
    assert b"refused 0" in output
