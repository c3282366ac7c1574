"""Scenario: instances on one Redis. What does a message cost those whose user it is not for?"""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.bench.contenders import Contender
from benchmarks.bench.lab import Lab
from benchmarks.bench.messages import in_turns, posting
from benchmarks.bench.report import Report, Results, Row, middle, ratio, shares
from benchmarks.bench.servers import sides

RATE = 1000  # postbacks a second


async def fleet(lab: Lab, contenders: Sequence[Contender], report: Report) -> None:
    """Put all load on one instance, and look at what the others take."""
    for instances in lab.scale.fleet:
        async with sides(lab, contenders, instances) as running:
            fastest = posting(lab.scale)
            for plan in (fastest, replace(fastest, rate=RATE)):
                speed = f"{plan.rate:,}/s" if plan.rate else "saturation"
                title = f"fleet of {instances}: downstream at {speed}, all users on one instance"
                results = await in_turns(lab, running, plan)
                report.rounds(title, results, _row)


def _row(name: str, results: Results) -> Row:
    rounds = results[name]
    other = middle(rounds, "bystander")
    return [
        ("server", name),
        ("messages/s", f"{middle(rounds, 'rate'):.0f}"),
        ("ratio", ratio(name, results, "rate")),
        ("CPU µs", f"{1e6 * middle(rounds, 'cpu'):.0f}"),
        ("CPU µs of another instance", f"{1e6 * other:.1f}" if other else "–"),
        ("ratio", ratio(name, results, "bystander")),
        *shares(rounds),
    ]
