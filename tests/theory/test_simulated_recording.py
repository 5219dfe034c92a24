"""The simulated engine against the recording of a real vLLM driven into overload and out of it.

The engine knows the recorded arrivals and tokens, its 16 places and how long an iteration took;
the queue, the completions and the times to first token are its own.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlloop.api.replicas import FloatArray
from controlloop.simulator.engine.server import ServerEngines
from controlloop.simulator.engine.times import engine_numbers, noise_factors
from controlloop.simulator.workloads.requests import Requests
from controlloop.simulator.workloads.trace import Trace

PLACES = 16
OVERLOAD_S = 165.0
# All places are taken from the one to the other.
BUSY_S = (180.0, 540.0)


@dataclass(frozen=True)
class Recording:
    """What clients and the engine's own metrics showed."""

    requests: Requests
    arrival_s: FloatArray
    ttft_s: FloatArray
    itl_s: FloatArray
    total_s: FloatArray
    sampled_s: FloatArray
    waiting: FloatArray
    completed: FloatArray


@pytest.fixture(scope="module")
def recording(shared_data: Callable[[str], Path]) -> Recording:
    path = shared_data("vllm-recordings/overload-requests.csv.gz")
    with gzip.open(path, "rt") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    seen = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    with gzip.open(shared_data("vllm-recordings/overload.jsonl.gz"), "rt") as stream:
        samples = [json.loads(line) for line in stream]
    return Recording(
        requests=Trace(path).open(np.random.SeedSequence(0)).take(np.inf),
        arrival_s=seen["arrival_s"],
        ttft_s=seen["ttft_s"],
        itl_s=(seen["total_s"] - seen["ttft_s"]) / (seen["output_tokens"] - 1),
        total_s=seen["total_s"],
        sampled_s=np.array([sample["t"] for sample in samples]),
        waiting=np.array([_sum(sample, "vllm:num_requests_waiting") for sample in samples]),
        completed=np.array([_sum(sample, "vllm:request_success_total") for sample in samples]),
    )


def test_overload_builds_the_queue_that_was_recorded(recording: Recording) -> None:
    began_s = recording.arrival_s + recording.ttft_s
    busy = (began_s >= BUSY_S[0]) & (began_s < BUSY_S[1])
    gaps = recording.requests.output_tokens[busy] - 1
    iteration_ms = 1000.0 * float(np.average(recording.itl_s[busy], weights=gaps))
    numbers = engine_numbers("iteration-time", (iteration_ms, 0.0, 0.0), PLACES)
    engines = ServerEngines(numbers, noise_factors(0.1))
    engines.add(0.0)
    requests = recording.requests
    late = requests.take(requests.times_s >= OVERLOAD_S)
    engines.advance(Requests.none(), OVERLOAD_S)
    waiting, completed = [], []
    times = [each for each in recording.sampled_s if BUSY_S[0] < each < BUSY_S[1]]
    before = OVERLOAD_S
    for time in times:
        arriving = (late.times_s >= before) & (late.times_s < time)
        engines.advance(late.take(arriving), time)
        waiting.append(engines.waiting)
        completed.append(engines.counts().completed)
        before = time
    at = np.isin(recording.sampled_s, times)
    # The queue grows to 1955 and shrinks again; everywhere within 5 % of its most.
    assert np.max(recording.waiting[at]) == 1955
    assert np.max(np.abs(np.array(waiting) - recording.waiting[at])) < 0.05 * 1955
    recorded = recording.completed[at] - recording.completed[at][0]
    assert np.array(completed) - completed[0] == pytest.approx(recorded, abs=0.05 * recorded[-1])
    # TTFT over time, by the quarter of a minute in which requests arrived.
    engines.advance(Requests.none(), 700.0)
    ttft_s = engines.results().ttft_ms / 1000.0
    for start in np.arange(180.0, 345.0, 15.0):
        mine = (late.times_s >= start) & (late.times_s < start + 15.0)
        theirs = (recording.arrival_s >= start) & (recording.arrival_s < start + 15.0)
        recorded_s = float(np.mean(recording.ttft_s[theirs]))
        # The first half a minute is faster than the mean of all while busy.
        within = 0.05 if start >= 210.0 else 0.1
        assert np.mean(ttft_s[mine]) == pytest.approx(recorded_s, rel=within, abs=5.0)


# Seconds that parameters are fitted to, then how near each span comes: TTFT, ITL, response time.
CALM = {
    "fitted to both spans": (160.0, (0.05, 0.05, 0.05), (0.1, 0.05, 0.05)),
    "the busier span is not fitted to": (90.0, (0.05, 0.05, 0.05), (0.1, 0.1, 0.1)),
}


@pytest.mark.parametrize("case", CALM)
def test_below_saturation_latencies_are_those_recorded(recording: Recording, case: str) -> None:
    fitted_s, *allowed = CALM[case]
    alpha_ms, beta_ms = _iteration_by_batch(recording, recording.arrival_s < fitted_s)
    prompt_ms = 1000.0 * float(np.mean(recording.ttft_s[recording.arrival_s < 90.0]))
    numbers = engine_numbers("state-dependent", (alpha_ms, beta_ms, prompt_ms, 0.0), PLACES)
    engines = ServerEngines(numbers, noise_factors(0.1))
    engines.add(0.0)
    engines.advance(recording.requests.take(recording.requests.times_s < 160.0), 170.0)
    results = engines.results()
    # About 2 requests in service, then 6.
    for (start, end), within in zip(((0.0, 90.0), (90.0, 160.0)), allowed, strict=True):
        mine = (results.arrival_s >= start) & (results.arrival_s < end)
        theirs = (recording.arrival_s >= start) & (recording.arrival_s < end)
        stay_s = results.done_s[mine] - results.arrival_s[mine]
        for simulated, recorded_s, share in zip(
            (results.ttft_ms[mine], results.itl_ms[mine], 1000.0 * stay_s),
            (recording.ttft_s[theirs], recording.itl_s[theirs], recording.total_s[theirs]),
            within,
            strict=True,
        ):
            expected_ms = 1000.0 * float(np.mean(recorded_s))
            assert np.mean(simulated) == pytest.approx(expected_ms, rel=share)


def _iteration_by_batch(recording: Recording, rows: Any) -> tuple[float, float]:
    """Least squares of ITL on the mean number of others in service, over these requests."""
    starts, ends = recording.arrival_s, recording.arrival_s + recording.total_s
    batch = [
        np.sum(np.clip(np.minimum(end, ends) - np.maximum(start, starts), 0.0, None))
        / (end - start)
        for start, end in zip(starts[rows], ends[rows], strict=True)
    ]
    slope, base = np.polyfit(batch, 1000.0 * recording.itl_s[rows], 1)
    return float(base), float(slope)


def _sum(sample: Any, name: str) -> float:
    lines = (line for line in sample["exposition"] if line.startswith(f"{name}{{"))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
