"""What a cycle of the tuner costs: `python tests/benchmarks/bench_tuner.py [PAIRS]`."""

from __future__ import annotations

import sys
import time
import zlib

import numpy as np

from controlloop.api.system import PerfParameters
from controlloop.queueing.models import queue_models, replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.checkpoint import encode
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.pairs import Pairs, Sample
from controlloop.tuner.tuning import Tuning

CYCLES = 40
TRUTH = np.array([12.0, 0.3, 25.0, 0.002])


def main(count: int) -> None:
    """Learn `count` pairs, each configured wrongly, over a load that rises and falls."""
    rng, model = np.random.default_rng(0), StateDependent()
    truth = TRUTH * np.exp(rng.normal(0, 0.4, (count, 4)))
    servers = replicas(np.full(count, 64), np.full(count, 500.0), np.full(count, 200.0), truth)
    most = model.rate_range_rps(servers)[1]
    configured = truth * np.exp(rng.normal(0, 0.4, truth.shape))
    perf = [
        PerfParameters(f"m{row}", "a", tuple(one.tolist()), 64, 1)
        for row, one in enumerate(configured)
    ]
    pairs = Pairs(queue_models(), Tuning())
    pairs.take_up(perf, {})
    seconds = []
    for cycle in range(CYCLES):
        rates = most * (0.5 - 0.4 * np.cos(2 * np.pi * cycle / 50))
        found = model.analyze(servers, rates)
        noise = np.exp(rng.normal(0, 0.05, (count, 2)))
        samples = [
            Sample(
                (f"m{row}", "a"),
                Measurement(
                    time=60.0 * cycle,
                    rate_rps=float(rates[row]),
                    input_tokens=500.0,
                    output_tokens=200.0,
                    max_batch=64,
                    itl_ms=float(found.itl_ms[row] * noise[row, 0]),
                    ttft_ms=float(found.ttft_ms[row] * noise[row, 1]),
                ),
            )
            for row in range(count)
        ]
        begin = time.perf_counter()
        pairs.learn(samples)
        seconds.append(time.perf_counter() - begin)
    state = encode(pairs.beliefs)
    print(f"{count} pairs, {CYCLES} cycles: median {np.median(seconds):.2f} s a cycle", end=", ")
    print(f"longest {max(seconds):.2f} s; state {len(state)} bytes, ", end="")
    print(f"compressed {len(zlib.compress(state, 9))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
