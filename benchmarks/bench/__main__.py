"""
How fast the gateway is, next to what most would write instead, on this machine.

Servers take turns in rounds, on one core; the load generator and Redis are on another one. The
same server differs by a third from minute to minute, so only the ratios count: each is the median
of the rounds' ratios to the Node program. *ours-unmeasured* is the gateway without its metrics: a
line below the table says what they cost. "lag" is how late a server's event loop was at worst
within 10 s, which are longer than a round: its sockets are opened in them. Exit code 1 if the
gateway lost, doubled, misrouted or reordered a message.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.bench.about import about
from benchmarks.bench.contenders import CONTENDERS, USUAL, Contender
from benchmarks.bench.fleet import fleet
from benchmarks.bench.idle import idle
from benchmarks.bench.lab import QUICK, Lab, Scale, lab
from benchmarks.bench.leaving import leaving
from benchmarks.bench.load import build
from benchmarks.bench.messages import MESSAGES, messages
from benchmarks.bench.report import Report
from benchmarks.bench.servers import sides

OTHERS = {scenario.__name__: scenario for scenario in (idle, fleet, leaving)}
SCENARIOS = [*MESSAGES, *OTHERS]


async def bench(where: Lab, names: Sequence[str], contenders: Sequence[Contender]) -> Report:
    """Run the scenarios of these *names*."""
    report = Report()
    carrying = [MESSAGES[name] for name in names if name in MESSAGES]
    if carrying:  # on servers that run all the while
        async with sides(where, contenders) as running:
            for scenario in carrying:
                await messages(where, running, scenario(where.scale), report)
    for name in names:
        if name in OTHERS:
            await OTHERS[name](where, contenders, report)
    return report


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="scenario",
        help=f"any of {', '.join(SCENARIOS)}; default all",
    )
    parser.add_argument(
        "--servers",
        default=",".join(contender.name for contender in USUAL),
        help=f"of {','.join(CONTENDERS)}; default %(default)s",
    )
    parser.add_argument("--rounds", type=int, help=f"default {Scale.rounds}")
    parser.add_argument("--seconds", type=float, help=f"of a round, default {Scale.seconds}")
    parser.add_argument("--quick", action="store_true", help="see that it works, measure nothing")
    parser.add_argument("--json", type=Path, help="a file for all figures of all rounds")
    told = parser.parse_args()
    told.servers = told.servers.split(",")
    for name in {*told.scenarios, *told.servers} - {*SCENARIOS, *CONTENDERS}:
        parser.error(f"there is no {name}")
    return told


def main() -> int:
    """Run as told on the command line; return the exit code."""
    told = options()
    scale = QUICK if told.quick else Scale()
    chosen = {name: getattr(told, name) for name in ("rounds", "seconds")}
    scale = replace(scale, **{name: value for name, value in chosen.items() if value is not None})
    build()
    contenders = [CONTENDERS[name] for name in told.servers]
    with lab(scale) as where:
        print(about(where))
        report = asyncio.run(bench(where, told.scenarios or SCENARIOS, contenders))
    if told.json:
        report.write(told.json)
    print(*report.wrongs, sep="\n")
    return bool(report.wrongs)


if __name__ == "__main__":
    sys.exit(main())
