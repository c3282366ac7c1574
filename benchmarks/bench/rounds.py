"""One round: load on a side, and what it took."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from benchmarks.bench.bot import addressees, write_requests
from benchmarks.bench.figures import Tally, percentile
from benchmarks.bench.lab import Lab
from benchmarks.bench.load import Events, Load, Plan, load
from benchmarks.bench.processes import cpu_seconds, resident
from benchmarks.bench.servers import Side

GUESS = 4000.0  # messages a second, before anything is known
SPARE = 1.6  # times as many requests are made as the rate so far calls for


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round showed; times are in seconds, shares are of a core, from 0 to 1."""

    rate: float  # messages a second
    cpu: float  # of the server, for each message
    bystander: float  # of another instance, for each message
    p50: float
    p99: float
    longest: float
    lag: float  # of the server's event loop, at worst in 10 s: sockets are opened within them, too
    server: float  # share
    load: float  # share
    redis: float  # share
    resident: int  # bytes
    refused: int  # requests that were not answered with 2xx
    strange: int  # what came and was no message of this round
    tally: Tally


class Measuring:
    """Measures rounds of one plan on one side, and learns how fast it is."""

    def __init__(self, lab: Lab, side: Side, plan: Plan) -> None:
        """Put the load of *plan* on *side*."""
        self.rounds: list[Round] = []
        self._lab = lab
        self._side = side
        self._plan = plan
        self._rate = GUESS

    async def warm_up(self) -> None:
        """Run without looking at the figures, in two halves: the first tells how fast it is."""
        for _ in range(2):
            seconds = self._lab.scale.warm_up / 2
            shown = await self._run(replace(self._plan, seconds=seconds))
            self._rate = max(shown.rate, 100.0)

    async def run(self) -> None:
        """Run one round."""
        self.rounds.append(await self._run(self._plan))
        self._rate = max(self.rounds[-1].rate, 100.0)

    async def _run(self, plan: Plan) -> Round:
        pids = [self._side.redis_pid, *(server.process.pid for server in self._side.servers)]
        async with prepared(self._lab, self._side, plan, self._requests(plan)) as running:
            before = [cpu_seconds(pid) for pid in pids]
            counts = await running.go()
            took = [cpu_seconds(pid) - cpu for pid, cpu in zip(pids, before, strict=True)]
            memory, lag = resident(pids[1]), await self._side.server.lag()
        events = Events.read(self._lab.folder / "events")
        return _round(plan, counts, events, took, memory, lag)

    def _requests(self, plan: Plan) -> int:
        if plan.rate:
            return int(plan.rate * plan.seconds)
        return int(self._rate * SPARE * plan.seconds / plan.batch) + plan.posters


def prepared(
    lab: Lab, side: Side, plan: Plan, requests: int = 0, events: str = "events"
) -> AbstractAsyncContextManager[Load]:
    """Open the sockets of *plan* within the context; so many *requests* are made for the bot."""
    run, files = next(lab.runs), []
    more: dict[str, Any] = {"run": run, "ports": str(side.server.port)}
    more["events"] = str(lab.folder / events)
    if plan.posters:
        write_requests(lab.folder / "requests", plan, run, requests)
        more["requests"] = str(lab.folder / "requests")
    if plan.messages:
        files = [lab.concierge.fileno()]
        more["concierge"] = files[0]
    return load(plan, files, **more)


def _round(
    plan: Plan,
    counts: dict[str, Any],
    events: Events,
    took: Sequence[float],
    memory: int,
    lag: float,
) -> Round:
    latencies = list(latencies_of(plan, events))
    received, seconds = len(events.received), counts["seconds"]
    last = events.received[-1].at if events.received else 0.0
    others = took[2:]
    return Round(
        rate=received / max(1e-9, last - counts["began"]),
        cpu=took[1] / max(1, received),
        bystander=sum(others) / max(1, len(others)) / max(1, received),
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        longest=max(latencies, default=float("nan")),
        lag=lag,
        server=sum(took[1:]) / seconds,
        load=counts["cpu"] / seconds,
        redis=took[0] / seconds,
        resident=memory,
        refused=sum(n for status, n in counts["statuses"].items() if status[0] != "2"),
        strange=counts["strange"],
        tally=tally_of(plan, events),
    )


def latencies_of(plan: Plan, events: Events) -> Iterator[float]:
    """Yield how long each message took from when it was due."""
    for receipt in events.received:
        yield receipt.at - events.sent[receipt.message // plan.batch].due


def tally_of(plan: Plan, events: Events) -> Tally:
    """Judge what became of what users said, or of the postbacks that the server has taken."""
    if plan.posters:
        to = islice(addressees(plan), len(events.sent) * plan.batch)
        taken = [sent.status // 100 == 2 for sent in events.sent]
        sent = [(n, user) for n, user in enumerate(to) if taken[n // plan.batch]]
    else:
        sent = [(n, n % plan.sockets) for n, one in enumerate(events.sent) if one.due]
    return Tally.of(sent, ((receipt.message, receipt.user) for receipt in events.received))
