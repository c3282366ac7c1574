"""Scenario: sockets on which nothing is said. What does each cost?"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.bench.contenders import Contender
from benchmarks.bench.figures import median_of_ratios
from benchmarks.bench.lab import Lab
from benchmarks.bench.load import Load, Plan
from benchmarks.bench.processes import cpu_seconds, resident
from benchmarks.bench.report import PEER, Report, Row
from benchmarks.bench.rounds import prepared
from benchmarks.bench.servers import Side, sides

BRIEF = 0.1  # seconds of silence, where only the opening counts


@dataclass(frozen=True)
class Idle:
    """What one contender took for its sockets; times are in seconds."""

    rate: float  # sockets opened a second
    opening: float  # CPU of one being opened
    whole: int  # bytes, resident
    cpu: float  # share of a core while nothing is said
    pings: int


Shown = Mapping[str, Sequence[Idle]]  # by the contender's name, of each round


async def idle(lab: Lab, contenders: Sequence[Contender], report: Report) -> None:
    """Open sockets on fresh servers, round by round; in the last listen for one heartbeat."""
    fewest = lab.scale.idle[0]
    shown: dict[int, Shown] = {}
    silences = [*[BRIEF] * (lab.scale.rounds - 1), lab.scale.silence]
    for sockets in lab.scale.idle:
        rounds = []
        for silence in silences:
            async with sides(lab, contenders) as running:
                rounds.append(await _idle(lab, running, Plan(sockets=sockets, seconds=silence)))
        shown[sockets] = {one.name: [each[one.name] for each in rounds] for one in contenders}
        rows = [
            _row(name, shown[sockets], _each(shown, name, fewest, sockets))
            for name in shown[sockets]
        ]
        report.facts(f"idle: {sockets:,} sockets for {lab.scale.silence:g} s", rows)


async def _idle(lab: Lab, running: Sequence[Side], plan: Plan) -> dict[str, Idle]:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as silences:
        tasks = {}
        for side in running:  # one after the other, each with the core to itself
            cpu = cpu_seconds(side.server.process.pid)
            users = await stack.enter_async_context(
                prepared(lab, side, plan, events=f"events-{side.contender.name}")
            )
            cpu = cpu_seconds(side.server.process.pid) - cpu
            tasks[side.contender.name] = silences.create_task(_silence(side, users, cpu))
    return {name: task.result() for name, task in tasks.items()}


async def _silence(side: Side, users: Load, opening: float) -> Idle:
    pid, sockets = side.server.process.pid, users.gathered["connected"]
    before = cpu_seconds(pid)
    counts = await users.go()
    return Idle(
        sockets / users.gathered["seconds"],
        opening / sockets,
        resident(pid),
        (cpu_seconds(pid) - before) / counts["seconds"],
        counts["pings"],
    )


def _each(shown: dict[int, Shown], name: str, fewer: int, more: int) -> float | None:
    """
    Return the bytes that each socket takes beyond the fewest.

    What a process takes at first is no measure: it has yet to collect the garbage of its start.
    """
    if fewer == more:
        return None
    return (shown[more][name][-1].whole - shown[fewer][name][-1].whole) / (more - fewer)


def _row(name: str, shown: Shown, each: float | None) -> Row:
    rates = [one.rate for one in shown[name]]
    peer = [one.rate for one in shown.get(PEER, ())]
    last = shown[name][-1]
    return [
        ("server", name),
        ("opened/s", f"{median(rates):.0f}"),
        ("ratio", f"{median_of_ratios(rates, peer):.2f}" if peer else "–"),
        ("CPU ms to open", f"{1000 * median(one.opening for one in shown[name]):.3f}"),
        ("RSS MB", f"{last.whole / 1e6:.0f}"),
        ("RSS kB each", "–" if each is None else f"{each / 1000:.1f}"),
        ("CPU %", f"{100 * last.cpu:.2f}"),
        ("pings", str(last.pings)),
    ]
