"""`make bench`: what the optimizer costs, how it grows, and the targets beside it.

A target is missed where both wall and CPU time exceed it: all of it is one thread, so that the
lesser is what a quiet machine takes. Times are of this machine; yardsticks (multiples of a fixed
piece of work measured beside each case), growth exponents and ratios are what to compare between
machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from measuring import Measured, growth_exponent, in_own_process
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

SIZES = [30, 300, 1000, 3000, 10000]
TARGETS = {
    "pairs:567": 0.005,
    "forecast:1000": 0.5,
    # 500 times as fast as real time.
    "simulate:50": 1.0,
    # Of one thread, with 5,000 pods and all that is told of them.
    "cycle:1000": 3.0,
    "greedy:1000": 1.0,
    "milp:1000": 6.0,
    "greedy:10000": 12.0,
}
MOST_GROWTH = 1.15


def table_of(measured: dict[str, Measured]) -> Table:
    """One row a case."""
    table = Table(
        title="What the optimizer costs (27 accelerators)", title_justify="left", box=SIMPLE_HEAD
    )
    for column in (
        "Case",
        "Wall s",
        "CPU s",
        "Yardsticks",
        "Peak MB",
        "Target s",
        "Of it",
        "Answer",
    ):
        left = column in ("Case", "Answer")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "Answer")
    for name, one in measured.items():
        target = TARGETS.get(name)
        table.add_row(
            name,
            f"{one.seconds:.4f}",
            f"{one.cpu_s:.4f}",
            f"{one.yardsticks:.2f}",
            f"{one.peak_mb:.0f}",
            "" if target is None else f"{target:g}",
            "" if target is None else f"{one.undisturbed_s / target:.0%}",
            one.remark,
        )
    return table


def main() -> int:
    """Measure every case; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="largest number of servers")
    parser.add_argument("--output", type=Path, help="also write JSON here")
    chosen = parser.parse_args()
    sizes = [size for size in SIZES if size <= chosen.largest]
    names = [
        "pairs:567",
        "forecast:1000",
        "simulate:50",
        "cycle:1000",
        *(f"{solver}:{size}" for solver in ("greedy", "milp") for size in sizes),
    ]
    console = Console(width=max(Console().width, 100))
    measured = {name: in_own_process(name) for name in track(names, "measuring", console=console)}
    console.print(table_of(measured))
    growth = {
        solver: growth_exponent(sizes[1:], [measured[f"{solver}:{n}"].cpu_s for n in sizes[1:]])
        for solver in ("greedy", "milp")
        if len(sizes) > 2
    }
    for solver, exponent in growth.items():
        console.print(f"growth exponent of {solver}, {sizes[1]} to {sizes[-1]}: {exponent:.2f}")
    missed = [
        name
        for name, target in TARGETS.items()
        if name in measured and measured[name].undisturbed_s > target
    ]
    missed += [f"growth of {one}" for one, exponent in growth.items() if exponent > MOST_GROWTH]
    console.print(f"missed: {', '.join(missed)}" if missed else "every target is met")
    if chosen.output:
        document = {
            "cases": {name: asdict(one) for name, one in measured.items()},
            "growth": growth,
            "missed": missed,
        }
        chosen.output.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
