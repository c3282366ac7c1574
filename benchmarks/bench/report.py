"""What is printed: a table for each plan, with medians of the rounds and of the rounds' ratios."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench.figures import Tally, median_of_ratios, share_of_ratios
from benchmarks.bench.rounds import Round

PEER = "node"  # what ratios are to
MEASURED, UNMEASURED = "ours", "ours-unmeasured"  # whose ratio is what metrics cost
BUSY = 0.7  # share of its core from which on the load generator may be the bottleneck

Row = Sequence[tuple[str, str]]  # a column's title, and what is in it
Results = Mapping[str, Sequence[Round]]  # by the contender's name


@dataclass
class Report:
    """Prints tables as they come, and keeps what they were made of."""

    records: list[dict[str, Any]] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)

    def rounds(self, title: str, results: Results, row: Callable[[str, Results], Row]) -> None:
        """Take the rounds of each contender, run in turns; *row* makes one of the table's rows."""
        print_table(title, [row(name, results) for name in results])
        if {MEASURED, UNMEASURED} <= results.keys():
            print(cost_of_metrics(results))
        for name, rounds in results.items():
            kept = [asdict(one) for one in rounds]
            self.records.append({"title": title, "server": name, "rounds": kept})
        if max(middle(rounds, "load") for rounds in results.values()) > BUSY:
            print(f"The load generator took more than {BUSY:.0%} of its core: it may be the limit.")
        for one in results.get("ours", ()):
            if one.strange or not one.tally.good():
                self.wrongs.append(f"{title}: {one.tally}, strange {one.strange}")

    def facts(self, title: str, rows: Sequence[Row]) -> None:
        """Take what was measured once."""
        print_table(title, rows)
        self.records.append({"title": title, "rows": rows})

    def write(self, path: Path) -> None:
        """Write all that was kept, as JSON."""
        path.write_text(json.dumps(self.records, indent=1))


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Print *rows*, aligned; all have the same columns."""
    lines = [[head for head, _ in rows[0]], *([text for _, text in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for name, *figures in lines:
        cells = [name.ljust(widths[0])]
        cells += [one.rjust(width) for one, width in zip(figures, widths[1:], strict=True)]
        print("  ".join(cells), flush=True)


def carried(name: str, results: Results) -> Row:
    """Return a row on how messages were carried."""
    rounds = results[name]
    tally = sum((one.tally for one in rounds), Tally())
    return [
        ("server", name),
        ("messages/s", f"{middle(rounds, 'rate'):.0f}"),
        ("ratio", ratio(name, results, "rate")),
        ("CPU ms", f"{1000 * middle(rounds, 'cpu'):.3f}"),
        ("ratio", ratio(name, results, "cpu")),
        ("p50 ms", f"{1000 * middle(rounds, 'p50'):.2f}"),
        ("p99 ms", f"{1000 * middle(rounds, 'p99'):.2f}"),
        ("ratio", ratio(name, results, "p99")),
        ("max ms", f"{1000 * middle(rounds, 'longest'):.2f}"),
        ("lag ms", _or_dash(1000 * middle(rounds, "lag"))),
        ("RSS MB", f"{middle(rounds, 'resident') / 1e6:.0f}"),
        *shares(rounds),
        ("refused", str(sum(one.refused for one in rounds))),
        *((what, str(count)) for what, count in asdict(tally).items()),
    ]


def cost_of_metrics(results: Results) -> str:
    """Return a line on how the gateway compares with itself without metrics, and how surely."""
    told = []
    for what, figure in (("messages/s", "rate"), ("CPU", "cpu")):
        with_them, without = (
            [getattr(one, figure) for one in results[who]] for who in (MEASURED, UNMEASURED)
        )
        low, high = (share_of_ratios(with_them, without, share) for share in (0.25, 0.75))
        middling = median_of_ratios(with_them, without)
        told.append(f"{what} {middling:.3f} (half of the rounds: {low:.3f} to {high:.3f})")
    return f"With metrics, of what it is without: {', '.join(told)}"


def shares(rounds: Sequence[Round]) -> Row:
    """Return columns on who was busy: `server` near 100 % and `load` far from it, at saturation."""
    return [(f"{who} %", f"{100 * middle(rounds, who):.0f}") for who in ("server", "redis", "load")]


def middle(rounds: Sequence[Round], figure: str) -> float:
    """Return the median of a figure."""
    return float(median(getattr(one, figure) for one in rounds))


def ratio(name: str, results: Results, figure: str) -> str:
    """Return the median of the rounds' ratios to the peer's, a dash if there are none."""
    if PEER not in results:
        return "–"
    ours, theirs = ([getattr(one, figure) for one in results[who]] for who in (name, PEER))
    return _or_dash(median_of_ratios(ours, theirs))


def _or_dash(figure: float) -> str:
    return "–" if isnan(figure) else f"{figure:.2f}"
