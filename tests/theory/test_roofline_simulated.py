"""The roofline's closed forms against a replica simulated iteration by iteration."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest

from controlloop.queueing import models
from controlloop.queueing.roofline import Roofline

WEIGHTS, SEQUENCE, CONTEXT, TOKEN, REQUEST = 7.0, 0.02, 4e-5, 0.025, 6.8
CARD = [WEIGHTS, SEQUENCE, CONTEXT, TOKEN, REQUEST, 0.0, 4.5e5]
BUDGET = 8192
WARM_UP = 0.2


@dataclass
class Request:
    arrived_ms: float
    prompt: int
    answer: int
    unread: int = 0
    made: int = 0
    first_ms: float = 0.0


@dataclass
class Replica:
    """First come, first served; prompts in chunks of what the token budget leaves."""

    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    now_ms: float = 0.0
    done: list[tuple[float, float]] = field(default_factory=list)

    def iterate(self) -> None:
        decoding = [each for each in self.running if each.unread == 0]
        room = BUDGET - len(decoding)
        prompts = [each for each in self.running if each.unread > 0]
        while self.waiting and room > sum(each.unread for each in prompts):
            prompts.append(self.waiting.popleft())
            self.running.append(prompts[-1])
        computed = 0
        for each in prompts:
            part = min(each.unread, room - computed)
            each.unread -= part
            computed += part
        resident = sum(each.prompt + each.made for each in decoding)
        self.now_ms += (
            math.hypot(WEIGHTS, TOKEN * (len(decoding) + computed))
            + SEQUENCE * len(decoding)
            + CONTEXT * resident
        )
        for each in self.running:
            if each.unread == 0:
                each.made += 1
                each.first_ms = each.first_ms or self.now_ms
        for each in [each for each in self.running if each.made >= each.answer]:
            self.running.remove(each)
            ttft_ms = REQUEST + each.first_ms - each.arrived_ms
            self.done.append((ttft_ms, (self.now_ms - each.first_ms) / (each.answer - 1)))


def simulated(
    tokens_in: int, tokens_out: int, rate_rps: float, seconds: float, seed: int
) -> tuple[float, float]:
    """Mean TTFT and ITL of Poisson arrivals, lengths even on half to one and a half the mean."""
    random = np.random.default_rng(seed)
    count = int(rate_rps * seconds)
    arrivals = np.cumsum(random.exponential(1000 / rate_rps, count))
    prompts = (tokens_in * random.uniform(0.5, 1.5, count)).astype(int)
    answers = np.maximum(tokens_out * random.uniform(0.5, 1.5, count), 2).astype(int)
    coming = deque(
        Request(float(at), int(k), int(n), unread=int(k))
        for at, k, n in zip(arrivals, prompts, answers, strict=True)
    )
    replica = Replica()
    while coming or replica.waiting or replica.running:
        if not (replica.running or replica.waiting):
            replica.now_ms = max(replica.now_ms, coming[0].arrived_ms)
        while coming and coming[0].arrived_ms <= replica.now_ms:
            replica.waiting.append(coming.popleft())
        replica.iterate()
    settled = np.array(replica.done[int(WARM_UP * len(replica.done)) :])
    return float(settled[:, 0].mean()), float(settled[:, 1].mean())


@pytest.mark.parametrize(
    ("tokens_in", "tokens_out", "rate_rps"),
    [(256, 256, 12.0), (256, 256, 25.0), (1024, 64, 6.0), (1024, 64, 17.0), (4096, 128, 2.0)],
)
def test_means_are_those_of_the_simulation(
    tokens_in: int, tokens_out: int, rate_rps: float
) -> None:
    seconds = 2500 / rate_rps
    ttft_ms, itl_ms = np.mean(
        [simulated(tokens_in, tokens_out, rate_rps, seconds, seed) for seed in (1, 2)], axis=0
    )
    pair = models.replicas(512, tokens_in, tokens_out, CARD)
    found = Roofline().analyze(pair, np.array([rate_rps]))
    assert found.itl_ms[0] == pytest.approx(itl_ms, rel=0.05)
    assert found.ttft_ms[0] == pytest.approx(ttft_ms, rel=0.08)
