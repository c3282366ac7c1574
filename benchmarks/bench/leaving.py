"""Scenario: SIGTERM. How do users learn of it, and how long does it take?"""

import asyncio
from collections.abc import Sequence

from benchmarks.bench.contenders import Contender
from benchmarks.bench.lab import Lab
from benchmarks.bench.load import Plan
from benchmarks.bench.report import Report, Row
from benchmarks.bench.rounds import prepared
from benchmarks.bench.servers import STOPPING, Side, sides


async def leaving(lab: Lab, contenders: Sequence[Contender], report: Report) -> None:
    """End each server while users are there."""
    async with sides(lab, contenders) as running:
        rows = [await _leave(lab, side) for side in running]
    report.facts(f"SIGTERM: {lab.scale.leaving:,} sockets", rows)


async def _leave(lab: Lab, side: Side) -> Row:
    plan = Plan(sockets=lab.scale.leaving, seconds=STOPPING + 5, until_closed=True)
    async with prepared(lab, side, plan) as users:
        going = asyncio.create_task(users.go())
        took = await side.server.stop()
        counts = await going
    closes = (f"{code}: {count}" for code, count in counts["closes"].items())
    return [
        ("server", side.contender.name),
        ("exit s", f"{took:.2f}"),
        ("exit code", str(side.server.process.returncode)),
        ("close codes", ", ".join(closes)),
        ("never closed", str(counts["open"])),
    ]
