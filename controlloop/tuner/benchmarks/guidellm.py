"""guidellm's benchmark report (JSON), reduced to the records that `read_sweeps` takes.

Facts of the form, from guidellm's own schemas: the report has `benchmarks`, one a load. Each has
its strategy in `config` (formerly in `args`), `metrics` whose entries are broken down by
`successful`, `incomplete` and `errored` with `mean`, `median`, `std_dev` and `percentiles`, and
its length as `duration`, or in `scheduler_metrics` (formerly `run_stats`). Requests are counted
in `request_totals` of the metrics (formerly beside them). Times of the metrics are in ms,
durations in s. Only successful requests count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from controlloop.errors import Problem

SYNCHRONOUS, CONSTANT, THROUGHPUT = "synchronous", "constant", "throughput"
CONCURRENT: Final = "concurrent"
POISSON: Final = "poisson"

_LATENCIES: Final = {"ttft_ms": "time_to_first_token_ms", "itl_ms": "inter_token_latency_ms"}
_TOKENS: Final = {
    "input_tokens_mean": "prompt_token_count",
    "output_tokens_mean": "output_token_count",
}
_PERCENTILES: Final = ("p50", "p90", "p95", "p99")
_FIGURES: Final = 2
_ENDS: Final = (
    ("scheduler_metrics", "measure_start_time", "measure_end_time"),
    ("run_stats", "start_time", "end_time"),
)
_DATA: Final = ("config", "args", "request_loader")

Record = dict[str, Any]


def is_report(document: object) -> bool:
    """Whether a JSON document has the outer form of a guidellm report."""
    return isinstance(document, Mapping) and "benchmarks" in document


def records_of_report(
    document: Mapping[str, Any], problems: list[Problem], skipped: list[str]
) -> dict[str, list[Record]]:
    """The runs of a report by shape.

    Args:
        document: what a JSON parser gives.
        problems: what cannot be read is added here, by its place in the report.
        skipped: runs that no prediction is made for are named here.

    """
    benchmarks = document["benchmarks"]
    if not isinstance(benchmarks, list) or not benchmarks:
        problems.append(Problem("benchmarks", "must be a list of at least one benchmark"))
        return {}
    shapes: dict[str, list[Record]] = {}
    for at, benchmark in enumerate(benchmarks):
        place = f"benchmarks[{at}]"
        try:
            record = _record(benchmark)
        except _BadReportError as error:
            problems.append(Problem(f"{place}.{error.path}", error.rule, error.value))
            continue
        if record["strategy"] == POISSON:
            skipped.append(f"{place}: arrivals by chance (poisson) are not predicted")
            continue
        shapes.setdefault(_shape(document, benchmark, record), []).append(record)
    return shapes


class _BadReportError(Exception):
    def __init__(self, path: str, rule: str, value: object = None) -> None:
        super().__init__(path)
        self.path, self.rule = path, rule
        self.value = None if value is None else str(value)


def _record(benchmark: object) -> Record:
    if not isinstance(benchmark, Mapping):
        raise _BadReportError("", "must be an object", type(benchmark).__name__)
    strategy, clients = _strategy(benchmark)
    record: Record = {"strategy": strategy, "duration_s": _duration_s(benchmark)}
    if clients is not None:
        record["clients"] = clients
    record.update(_in_flight(benchmark))
    for name, key in _TOKENS.items():
        record[name] = _positive(benchmark, "metrics", key, "successful", "mean")
    for name, key in _LATENCIES.items():
        record.update(_latency(benchmark, name, key))
    record["rate_rps"] = _positive(
        benchmark, "metrics", "requests_per_second", "successful", "mean"
    )
    return record


def _in_flight(benchmark: Mapping[str, Any]) -> Record:
    """What tells how many requests were under way, as far as the report has it."""
    places = {
        "incomplete": (
            ("metrics", "request_totals", "incomplete"),
            ("request_totals", "incomplete"),
        ),
        "concurrency_mean": (("metrics", "request_concurrency", "successful", "mean"),),
    }
    found: Record = {}
    for name, paths in places.items():
        numbers = [_at(benchmark, *path, default=None) for path in paths]
        found.update((name, each) for each in numbers if isinstance(each, int | float))
    return found


def _latency(benchmark: Mapping[str, Any], name: str, key: str) -> Record:
    path = ("metrics", key, "successful")
    summary = _at(benchmark, *path)
    levels = summary.get("percentiles") if isinstance(summary, Mapping) else None
    levels = levels if isinstance(levels, Mapping) else {}
    found: Record = {
        f"{name}_mean": _number(benchmark, *path, "mean"),
        f"{name}_p50": _number(benchmark, *path, "median"),
    }
    deviation = _at(benchmark, *path, "std_dev", default=None)
    if isinstance(deviation, int | float):
        found[f"{name}_std"] = deviation
    for level in _PERCENTILES:
        if isinstance(levels.get(level), int | float):
            found[f"{name}_{level}"] = levels[level]
    if max(found[f"{name}_mean"], found[f"{name}_p50"]) <= 0:
        raise _BadReportError(".".join((*path, "mean")), "must be > 0", found[f"{name}_mean"])
    return found


def _strategy(benchmark: Mapping[str, Any]) -> tuple[str, int | None]:
    """The strategy as `read_sweeps` names it, and how many clients where it says so."""
    outer = "args" if "args" in benchmark and "config" not in benchmark else "config"
    kind = _at(benchmark, outer, "strategy", "type_")
    if kind in {SYNCHRONOUS, POISSON}:
        return str(kind), None
    if kind == CONSTANT:
        return f"{CONSTANT}@{_positive(benchmark, outer, 'strategy', 'rate')}", None
    if kind == CONCURRENT:
        return THROUGHPUT, round(_positive(benchmark, outer, "strategy", "streams"))
    if kind == THROUGHPUT:
        most = _at(benchmark, outer, "strategy", "max_concurrency", default=None)
        return THROUGHPUT, round(most) if isinstance(most, int | float) and most > 0 else None
    known = f"{SYNCHRONOUS}, {CONSTANT}, {POISSON}, {CONCURRENT}, {THROUGHPUT}"
    raise _BadReportError(f"{outer}.strategy.type_", f"must be one of {known}", kind)


def _duration_s(benchmark: Mapping[str, Any]) -> float:
    duration = benchmark.get("duration")
    if isinstance(duration, int | float) and duration > 0:
        return float(duration)
    outer, start, end = next(
        (names for names in _ENDS if names[0] in benchmark), ("", "start_time", "end_time")
    )
    stamps = benchmark[outer] if outer else benchmark
    seconds = _number(stamps, end) - _number(stamps, start)
    if seconds <= 0:
        raise _BadReportError(f"{outer}.{end}".lstrip("."), f"must be above {start}")
    return seconds


def _shape(document: Mapping[str, Any], benchmark: Mapping[str, Any], record: Record) -> str:
    """Tokens in and out as asked for, where the report says so; else the means, rounded."""
    said = str([document.get("args"), *(benchmark.get(each) for each in _DATA)])
    asked = [
        re.search(rf"\b{name}['\"]?\s*[=:]\s*(\d+)", said)
        for name in ("prompt_tokens", "output_tokens")
    ]
    if all(asked):
        return shape_name(*(int(each[1]) for each in asked if each))
    return shape_of_means(record)


def shape_name(input_tokens: float, output_tokens: float) -> str:
    """What a shape is called."""
    return f"i{input_tokens:g}-o{output_tokens:g}"


def shape_of_means(record: Mapping[str, Any]) -> str:
    """The shape of a run by its mean tokens, to two figures: runs of one sweep vary a little."""
    return shape_name(*(_rounded(record[name]) for name in _TOKENS))


def _rounded(tokens: float) -> int:
    figures = _FIGURES - 1 - math.floor(math.log10(max(tokens, 1.0)))
    return max(int(round(tokens, figures)), 1)


def _at(value: Any, *path: str, default: Any = ...) -> Any:
    """What stands at `path`; missing is an error unless there is a default."""
    for depth, key in enumerate(path):
        if not isinstance(value, Mapping) or key not in value:
            if default is not ...:
                return default
            raise _BadReportError(".".join(path[: depth + 1]), "is missing")
        value = value[key]
    return value


def _number(benchmark: Mapping[str, Any], *path: str) -> float:
    value = _at(benchmark, *path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _BadReportError(".".join(path), "must be a finite number", value)
    return float(value)


def _positive(benchmark: Mapping[str, Any], *path: str) -> float:
    number = _number(benchmark, *path)
    if number <= 0:
        raise _BadReportError(".".join(path), "must be > 0", number)
    return number
