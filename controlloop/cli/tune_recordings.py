"""Recordings of every kind that `tune replay` reads, as samples.

A recording of an engine's metrics (JSON lines of `t` and `exposition`) goes through the
collector's own arithmetic, window by window, and the tuner's coherence gate.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Missing, Present, Reading
from controlloop.collector.dialects import VLLM, Ratio
from controlloop.collector.flow import Flow, flow_of, named
from controlloop.collector.means import tally_of
from controlloop.collector.series import Endpoint, Series
from controlloop.errors import InputError, Problem
from controlloop.tuner.recordings import (
    Assumed,
    Recorded,
    read_csv_recording,
    read_json_recording,
)
from controlloop.tuner.sampling import Sampler
from controlloop.units import ms_from_s

WINDOW_S: Final = 30.0
SERVER: Final = "recorded"

_LINE: Final = re.compile(r"^([A-Za-z_:][\w:]*)(\{.*\})?\s+(\S+)")


def read_recording(path: Path, assumed: Assumed) -> tuple[Recorded, ...]:
    """The samples of a recording, in order of time.

    Raises:
        InputError: the file cannot be read or is no recording; every problem found.

    """
    source = str(path)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError([Problem("", f"cannot be read: {error}")], source) from error
    name = path.name.removesuffix(".gz").lower()
    if name.endswith(".csv"):
        found = read_csv_recording(text, source, assumed)
    elif name.endswith(".jsonl"):
        found = _read_metrics(text, source, assumed)
    else:
        found = read_json_recording(text.encode(), source, assumed)
    if not found:
        raise InputError([Problem("", "holds no observation")], source)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Metrics:
    """The series of one engine."""

    series: Mapping[str, tuple[Series, ...]]

    def between(self, begin: float, end: float, *names: str) -> Endpoint:
        """The samples of `names` from `begin` to `end`, both included."""
        return {
            name: [one.between(begin, end) for one in self.series.get(name, ())] for name in names
        }

    def mean(self, begin: float, end: float, ratios: Sequence[Ratio], scale: float) -> Reading:
        """The mean of what was added up in the window, times `scale`."""
        names = [name for ratio in ratios for name in (ratio.total, ratio.count)]
        tally = tally_of(self.between(begin, end, *names), ratios)
        if tally is None or tally.count <= 0:
            return Missing("nothing was counted in the window")
        return Present(scale * tally.total / tally.count)


def _read_metrics(text: str, source: str, assumed: Assumed) -> tuple[Recorded, ...]:
    if assumed.max_batch is None:
        rule = "is required: a recording of metrics does not say it"
        raise InputError([Problem("--max-batch", rule)], source)
    times, metrics = _series(text, source)
    window_s = assumed.interval_s or WINDOW_S
    sampler = Sampler(window_s)
    recorded = []
    for end in np.arange(times[0] + window_s, times[-1] + 1e-6, window_s).tolist():
        seen = _observation(metrics, end - window_s, end, assumed)
        recorded += [Recorded(end, SERVER, each) for each in sampler.sample(end, seen)]
    return tuple(recorded)


def _observation(metrics: _Metrics, begin: float, end: float, assumed: Assumed) -> Observation:
    rows = {
        "completions": VLLM.completions,
        "rejections": VLLM.rejections,
        "running": VLLM.running,
        "waiting": VLLM.waiting,
    }
    found = {key: named(metrics.between(begin, end, *names), names) for key, names in rows.items()}
    flow = flow_of(**found)
    signals = Signals(
        arrival_rate_rps=_rate(flow, arrived=True),
        completion_rate_rps=_rate(flow, arrived=False),
        input_tokens=metrics.mean(begin, end, VLLM.input_tokens, 1.0),
        output_tokens=metrics.mean(begin, end, VLLM.output_tokens, 1.0),
        ttft_ms=metrics.mean(begin, end, VLLM.ttft_s, ms_from_s(1.0)),
        itl_ms=metrics.mean(begin, end, VLLM.itl_s, ms_from_s(1.0)),
        running=_last(found["running"]),
        waiting=_last(found["waiting"]),
        reported_pods=1,
        expected_pods=1,
    )
    workload = Workload(
        ref=WorkloadRef("default", SERVER),
        server=SERVER,
        model=assumed.model,
        service_class="",
        accelerator=assumed.accelerator,
        max_batch=assumed.max_batch or 0,
        replicas=1,
        ready_replicas=1,
    )
    return Observation(time=end, servers=(ServerObservation(workload, signals),))


def _rate(flow: Flow | str, *, arrived: bool) -> Reading:
    if isinstance(flow, str):
        return Missing(flow)
    return Present((flow.arrived if arrived else flow.completed) / flow.span_s)


def _last(gauges: Sequence[Series]) -> Reading:
    if not gauges or not all(len(one.values) for one in gauges):
        return Missing("no sample in the window")
    return Present(float(sum(one.values[-1] for one in gauges)))


def _series(text: str, source: str) -> tuple[list[float], _Metrics]:
    """The times of the samples, and all series.

    Raises:
        InputError: a line is not what a recording of metrics has.

    """
    times: list[float] = []
    samples: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row: Any = json.loads(line)
            time, shown = float(row["t"]), [str(each) for each in row["exposition"]]
        except (ValueError, KeyError, TypeError):
            problems.append(
                Problem(f"line {number}", 'must be {"t": seconds, "exposition": [...]}')
            )
            continue
        times.append(time)
        for each in shown:
            match = _LINE.match(each)
            value = _number(match.group(3)) if match else None
            if match and value is not None:
                samples[match.group(1), match.group(2) or ""].append((time, value))
    if problems or not times:
        raise InputError(problems or [Problem("", "holds no observation")], source)
    grouped: dict[str, list[Series]] = defaultdict(list)
    for (name, labels), values in samples.items():
        moments, shown_values = zip(*sorted(values), strict=True)
        grouped[name].append(Series({"__name__": name, "": labels}, moments, shown_values))
    return times, _Metrics({name: tuple(found) for name, found in grouped.items()})


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
