"""Scenario: sockets on which nothing is said. What does each cost?"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.bench.contenders import Contender
from benchmarks.bench.lab import Lab
from benchmarks.bench.load import Load, Plan
from benchmarks.bench.processes import cpu_seconds, resident
from benchmarks.bench.report import PEER, Report, Row
from benchmarks.bench.rounds import prepared
from benchmarks.bench.servers import Side, sides


@dataclass(frozen=True)
class Idle:
    """What one contender took for its sockets; times are in seconds."""

    rate: float  # sockets opened a second
    opening: float  # CPU of one being opened
    whole: int  # bytes, resident
    cpu: float  # share of a core while nothing is said
    pings: int


Shown = dict[str, Idle]  # by the contender's name


async def idle(lab: Lab, contenders: Sequence[Contender], report: Report) -> None:
    """Open sockets on fresh servers, and listen to their silence for one heartbeat."""
    fewest, shown = lab.scale.idle[0], {}
    for sockets in lab.scale.idle:
        async with sides(lab, contenders) as running:
            shown[sockets] = await _idle(lab, running, sockets)
        rows = [
            _row(name, shown[sockets], _each(shown, name, fewest, sockets))
            for name in shown[sockets]
        ]
        report.facts(f"idle: {sockets:,} sockets for {lab.scale.silence:g} s", rows)


async def _idle(lab: Lab, running: Sequence[Side], sockets: int) -> Shown:
    plan = Plan(sockets=sockets, seconds=lab.scale.silence)
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
    return (shown[more][name].whole - shown[fewer][name].whole) / (more - fewer)


def _row(name: str, shown: Shown, each: float | None) -> Row:
    one, peer = shown[name], shown.get(PEER)
    return [
        ("server", name),
        ("opened/s", f"{one.rate:.0f}"),
        ("ratio", f"{one.rate / peer.rate:.2f}" if peer else "–"),
        ("CPU ms to open", f"{1000 * one.opening:.3f}"),
        ("RSS MB", f"{one.whole / 1e6:.0f}"),
        ("RSS kB each", "–" if each is None else f"{each / 1000:.1f}"),
        ("CPU %", f"{100 * one.cpu:.2f}"),
        ("pings", str(one.pings)),
    ]
