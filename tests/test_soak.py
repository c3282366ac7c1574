"""A short run of the soak: two processes, one Redis, a bare publisher, many users."""

import asyncio
import sys

import pytest

from tests.switchboards import ROOT


@pytest.mark.slow
async def test_a_short_soak_loses_doubles_and_reorders_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.soak", "--seconds", "8", "--users", "40",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip

    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert b"lost 0, doubled 0, reordered 0" in output
