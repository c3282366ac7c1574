"""
Two instances, one Redis, and a crowd that comes, talks, goes and comes back, while things break.

Half of the users are of switchboard.v1, half of original clients; some stop reading. Links to Redis
break, it freezes, the Concierge refuses. All must arrive, in order and once, in both directions
(twice at most for original clients whose links broke); memory must not grow, and when all are gone,
so must be their descriptors and tasks. Exit code 1 if not.
"""

import argparse
import asyncio
import sys

from benchmarks.bench.processes import raise_file_limit
from benchmarks.soak.crowd import Rates
from benchmarks.soak.run import soaking

SPARE = 300.0  # seconds beyond those of the load that a run may take


async def main() -> bool:
    """Run as told on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=1200.0, help="default %(default)g")
    parser.add_argument("--sockets", type=int, default=2000, help="default %(default)s")
    for name, rate in vars(Rates()).items():
        parser.add_argument(
            f"--{name}", type=float, default=rate, help="a second, default %(default)g"
        )
    told = parser.parse_args()
    rates = Rates(**{name: getattr(told, name) for name in vars(Rates())})
    raise_file_limit()
    async with (
        asyncio.timeout(1.1 * told.seconds + SPARE),
        soaking(told.sockets, told.seconds) as soak,
    ):
        await soak.run(rates, told.seconds)
    return soak.report()


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
