"""Scenarios in which messages are carried, by servers that take turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks.bench.lab import Lab, Scale
from benchmarks.bench.load import Plan
from benchmarks.bench.report import Report, carried
from benchmarks.bench.rounds import Measuring, Round
from benchmarks.bench.servers import Side

ARRAY = 100  # postbacks in one request
FASTEST = 60_000  # messages a second that users say at most

Plans = dict[str, Plan]  # by title


def posting(scale: Scale) -> Plan:
    """Return the plan of a bot that posts, each request after the answer to the one before."""
    return Plan(sockets=scale.users, posters=scale.posters, seconds=scale.seconds)


def saturation(scale: Scale) -> Plans:
    """Post as fast as the server answers."""
    return {f"downstream at saturation: {_bot(scale)}": posting(scale)}


def rates(scale: Scale) -> Plans:
    """Post at fixed rates, whether or not the server keeps up."""
    return {
        f"downstream at {rate:,}/s: {_bot(scale)}": replace(posting(scale), rate=rate)
        for rate in scale.rates
    }


def batch(scale: Scale) -> Plans:
    """Post arrays; who takes none is posted single ones."""
    title = f"downstream in arrays of {ARRAY}, to peers one by one: {_bot(scale)}"
    return {title: replace(posting(scale), batch=ARRAY)}


def upstream(scale: Scale) -> Plans:
    """Have users talk: in turns with the Concierge, all at once, and to one that takes its time."""
    users = scale.users // 2
    talking = Plan(
        sockets=users, window=4, messages=int(FASTEST * scale.seconds), seconds=scale.seconds
    )
    burst = replace(
        talking, window=scale.burst, messages=users * scale.burst, patience=10 * scale.seconds
    )
    return {
        f"upstream: {users} sockets, 4 messages under way each": talking,
        f"upstream, a burst: {users} sockets, {scale.burst} messages at once each": burst,
        f"upstream, a Concierge that takes 20 ms: {users} sockets, 4 messages under way each": (
            replace(talking, delay=20)
        ),
    }


def _bot(scale: Scale) -> str:
    return f"{scale.posters} posters, {scale.users} sockets"


MESSAGES: dict[str, Callable[[Scale], Plans]] = {
    scenario.__name__: scenario for scenario in (saturation, rates, batch, upstream)
}


async def messages(
    lab: Lab, running: Sequence[Side], plans: Mapping[str, Plan], report: Report
) -> None:
    """Carry out each of *plans*."""
    for title, plan in plans.items():
        report.rounds(title, await in_turns(lab, running, plan), carried)


async def in_turns(lab: Lab, running: Sequence[Side], plan: Plan) -> dict[str, list[Round]]:
    """Put the load of *plan* on one side after the other, again and again."""
    single = replace(plan, batch=1)
    measuring = {
        side.contender.name: Measuring(lab, side, plan if side.contender.arrays else single)
        for side in running
    }
    for one in measuring.values():
        await one.warm_up()
    turns = list(measuring.values())
    for _ in range(lab.scale.rounds):
        for one in turns:
            await one.run()
        turns.reverse()  # nobody comes always after the same one
    return {name: one.rounds for name, one in measuring.items()}
