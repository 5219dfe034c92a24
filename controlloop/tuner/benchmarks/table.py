"""Benchmark runs from CSV: a header and one run a line, columns as in reduced sweeps.

Needed: input_tokens, output_tokens, ttft_ms, itl_ms (each also with `_mean` behind it), and
rate_rps, the rate offered, unless `strategy` says synchronous, throughput or constant@RATE.
Without a strategy a run is one of constant rate. `shape` names the sweep a run is of (missing: by
its tokens), `duration_s` its length (missing: so long that its start does not count), `clients`
how many send at once, or `incomplete` and `concurrency_mean` tell it. Percentiles `ttft_ms_p50`
... `itl_ms_p99` may be there, and where there is a median a mean may be corrupt, as there.
Other columns are not read.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Final

from controlloop.errors import Problem
from controlloop.tuner.benchmarks.guidellm import CONSTANT, Record, shape_of_means

LONG_S: Final = 3600.0
_MEANS: Final = ("input_tokens", "output_tokens", "ttft_ms", "itl_ms")
_LATENCIES: Final = ("ttft_ms", "itl_ms")
_ABOVE_ZERO: Final = frozenset(
    {
        *_MEANS,
        *(f"{name}_mean" for name in _MEANS),
        *(f"{name}_p{level}" for name in _LATENCIES for level in (50, 90, 95, 99)),
        *("rate_rps", "duration_s", "clients"),
    }
)
_ANY: Final = frozenset({"incomplete", "concurrency_mean", *(f"{n}_std" for n in _LATENCIES)})
_BEYOND: Final = "beyond the header"


def records_of_table(text: str, problems: list[Problem]) -> dict[str, list[Record]]:
    """The runs of a CSV text by shape; what cannot be read is added to `problems` by its line."""
    reader = csv.DictReader(io.StringIO(text), restkey=_BEYOND, restval="", skipinitialspace=True)
    columns = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in _MEANS if not {name, f"{name}_mean"} & set(columns)]
    if not {"rate_rps", "strategy"} & set(columns):
        missing.append("rate_rps")
    if missing:
        problems.append(Problem("line 1", f"must name the columns {', '.join(missing)}"))
        return {}
    shapes: dict[str, list[Record]] = {}
    for row in reader:
        found = _record(row, f"line {reader.line_num}", problems)
        if found is not None:
            shape = row.get("shape", "").strip() or shape_of_means(found)
            shapes.setdefault(shape, []).append(found)
    return shapes


def _record(row: Mapping[str, str], line: str, problems: list[Problem]) -> Record | None:
    found: Record = {"duration_s": LONG_S}
    known = len(problems)
    for column, text in row.items():
        if column == _BEYOND:
            problems.append(Problem(line, "has more cells than the header"))
            continue
        if column not in _ABOVE_ZERO | _ANY or not text.strip():
            continue
        name = f"{column}_mean" if column in _MEANS else column
        try:
            found[name] = float(text)
        except ValueError:
            problems.append(Problem(f"{line}.{column}", "must be a number", text))
            continue
        is_good = math.isfinite(found[name]) and found[name] > 0
        if not (is_good or column in _ANY or _has_median(name, row)):
            problems.append(Problem(f"{line}.{column}", "must be > 0", text))
    needed = [f"{name}_mean" for name in _MEANS]
    strategy = row.get("strategy", "").strip()
    if not strategy or strategy == CONSTANT:
        needed.append("rate_rps")
    absent = [name for name in needed if name not in found]
    if len(problems) == known:
        problems += [Problem(f"{line}.{name}", "is missing") for name in absent]
    if len(problems) > known:
        return None
    found["strategy"] = strategy or CONSTANT
    # Of other runs the rate does not count, but it is asked for.
    found.setdefault("rate_rps", 1.0)
    return found


def _has_median(name: str, row: Mapping[str, str]) -> bool:
    """Whether a mean of latency may be corrupt, since the median stands for it."""
    latency = name.removesuffix("_mean")
    return latency != name and latency in _LATENCIES and bool(row.get(f"{latency}_p50", "").strip())
