"""Draws docs/images/simulator.png: the simulated engine beside the models, and a real vLLM.

Needs the recording of an overloaded vLLM beside the checkout, in ../shared/data.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from controlloop.cli.picture_style import BLUE, INK, MUTED, ORANGE, head, style
from controlloop.queueing import models
from controlloop.simulator.engine.server import ServerEngines
from controlloop.simulator.engine.times import engine_numbers, noise_factors
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import Steady
from controlloop.simulator.workloads.requests import Requests
from controlloop.simulator.workloads.trace import Trace

ROOT = Path(__file__).resolve().parent.parent
RECORDINGS = ROOT.parent / "shared" / "data" / "vllm-recordings"
PARAMETERS = (15.0, 0.06, 1e-4, 0.02, 5.0, 0.05, 200_000.0)
LOADS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85])
OVERLOAD_S, BUSY_S, END_S = 165.0, (180.0, 540.0), 570.0


def main() -> None:
    """Draw it."""
    if not RECORDINGS.is_dir():
        sys.exit(f"{RECORDINGS} is not there")
    figure = Figure(figsize=(11, 6.4), dpi=100, facecolor="white", layout="constrained")
    (ttft, itl), (queue, first) = figure.subplots(2, 2)
    _against_model(ttft, itl)
    _against_recording(queue, first)
    for axes in (ttft, itl, queue, first):
        style(axes)
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    figure.savefig(ROOT / "docs" / "images" / "simulator.png")


def _against_model(ttft: Axes, itl: Axes) -> None:
    pair = models.replicas(64, 512, 128, [PARAMETERS])
    greatest = float(models.queue_models().create("roofline").rate_range_rps(pair)[1][0])
    lines = np.linspace(0.02, 0.9, 100)
    theory = models.analyze(pair.take(np.zeros(100, np.int64)), greatest * lines, "roofline")
    seen = np.array([_course(load * greatest) for load in LOADS])
    for axes, line, points, name in (
        (ttft, theory.ttft_ms, seen[:, 0], "TTFT, ms"),
        (itl, theory.itl_ms, seen[:, 1], "ITL, ms"),
    ):
        axes.plot(100 * lines, line, color=BLUE, linewidth=1.6, label="queue model roofline")
        axes.plot(100 * LOADS, points, "o", color=ORANGE, markersize=6, label="simulated engine")
        axes.set_ylim(0, None)
        axes.set_xlabel("load, % of the greatest rate", color=MUTED)
        head(axes, name)


def _course(rate_rps: float) -> tuple[float, float]:
    engines = ServerEngines(engine_numbers("roofline", PARAMETERS, 64), noise_factors(0.05))
    engines.add(0.0)
    lengths = TokenLengths(512, 128, 0.29, 0.29)
    stream = Generated(Steady(rate_rps), lengths).open(np.random.SeedSequence(2))
    end_s = 40_000.0 / rate_rps
    engines.advance(stream.take(end_s), end_s)
    results = engines.results()
    done = np.isfinite(results.done_s) & (results.arrival_s > 0.1 * end_s)
    return float(np.mean(results.ttft_ms[done])), float(np.mean(results.itl_ms[done]))


def _against_recording(queue: Axes, first: Axes) -> None:
    path = RECORDINGS / "overload-requests.csv.gz"
    with gzip.open(path, "rt") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    seen = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    with gzip.open(RECORDINGS / "overload.jsonl.gz", "rt") as stream:
        samples = [json.loads(line) for line in stream]
    sampled = np.array([sample["t"] for sample in samples])
    waiting = np.array([_waiting(sample["exposition"]) for sample in samples])

    began = seen["arrival_s"] + seen["ttft_s"]
    busy = (began >= BUSY_S[0]) & (began < BUSY_S[1])
    gaps = seen["output_tokens"][busy] - 1
    itl_s = (seen["total_s"] - seen["ttft_s"])[busy] / gaps
    parameters = (1000.0 * float(np.average(itl_s, weights=gaps)), 0.0, 0.0)
    engines = ServerEngines(engine_numbers("iteration-time", parameters, 16), noise_factors(0.1))
    engines.add(0.0)
    requests = Trace(path).open(np.random.SeedSequence(0)).take(np.inf)
    requests = requests.take(requests.times_s >= OVERLOAD_S)
    times = np.arange(OVERLOAD_S, END_S, 1.0)
    simulated = [_step(engines, requests, float(time)) for time in times]
    results = engines.results()

    queue.plot(sampled, waiting, color=BLUE, linewidth=1.6, label="recorded")
    queue.plot(times, simulated, color=ORANGE, linewidth=1.6, label="simulated")
    head(queue, "A vLLM in overload: requests waiting")
    late = seen["arrival_s"] >= OVERLOAD_S
    recorded = seen["arrival_s"][late], seen["ttft_s"][late]
    first.plot(*recorded, ".", color=BLUE, markersize=2, label="recorded")
    first.plot(
        results.arrival_s, results.ttft_ms / 1000, ".", color=ORANGE, markersize=2,
        label="simulated",
    )  # fmt: skip
    head(first, "TTFT in s, by arrival")
    for axes in (queue, first):
        axes.set_xlabel("s", color=MUTED)
        axes.set_xlim(100, END_S)


def _step(engines: ServerEngines, requests: Requests, time: float) -> int:
    inside = (requests.times_s >= engines.time) & (requests.times_s < time)
    engines.advance(requests.take(inside), time)
    return engines.waiting


def _waiting(exposition: list[str]) -> float:
    lines = [line for line in exposition if line.startswith("vllm:num_requests_waiting{")]
    return float(lines[0].rsplit(" ", 1)[1])


if __name__ == "__main__":
    main()
