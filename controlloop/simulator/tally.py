"""Adds up a run as it goes: cost step by step, requests as they are over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from controlloop.api.system import System
from controlloop.simulator.engine.server import Results
from controlloop.simulator.history import BIN_EDGES_MS, History, bins_of
from controlloop.simulator.plant import PlantServer, StepSample
from controlloop.simulator.scoring import objectives, replica_costs
from controlloop.units import hours_from_s

_TTFT, _ITL, _BOTH = range(3)


class Tally:
    """What `scoring.score` tells at the end, at any time.

    Args:
        servers: the plant's servers, in its order.
        catalog: prices and objectives.
        step_s: the length of a step.

    """

    def __init__(self, servers: Sequence[PlantServer], catalog: System, step_s: float) -> None:
        self._servers = tuple(servers)
        self._card_types = tuple(catalog.capacity)
        self._costs = replica_costs(servers, catalog)
        self._objectives = objectives(servers, catalog)
        self._step_s = step_s
        self._samples: list[StepSample] = []
        self._within = np.zeros((3, 0, len(servers)))
        self._bins = np.zeros((2, len(servers), len(BIN_EDGES_MS) + 1))
        self._over = 0
        self._met = 0
        self.cost = 0.0
        self.cost_per_hour = 0.0

    @property
    def attainment(self) -> float:
        """The share within both objectives of the requests that are over; 1 before the first."""
        return self._met / self._over if self._over else 1.0

    def add(self, samples: Sequence[StepSample], over: Mapping[str, Results]) -> None:
        """Take in what happened since the last time; costs in cents and cents/hour.

        Args:
            samples: the steps.
            over: the requests of each server that were over by the end of them.

        """
        for sample in samples:
            self.cost_per_hour = float(sample.held @ self._costs)
            self.cost += self.cost_per_hour * hours_from_s(self._step_s)
        self._samples.extend(samples)
        self.judge(over)

    def judge(self, over: Mapping[str, Results]) -> None:
        """Count requests that are over, each in the step that it arrived in."""
        missing = len(self._samples) - self._within.shape[1]
        if missing > 0:
            # Twice as much as is needed: a step is added every time.
            more = np.zeros((3, missing + len(self._samples), len(self._servers)))
            self._within = np.concatenate([self._within, more], axis=1)
        for column, server in enumerate(self._servers):
            results = over.get(server.name)
            if results is not None and len(results):
                self._judge(column, results)

    def history(self) -> History:
        """All of it, as arrays; at least one step."""
        samples = self._samples
        within = self._within[:, : len(samples)]
        return History(
            servers=self._servers,
            card_types=self._card_types,
            step_s=self._step_s,
            times=np.array([sample.time for sample in samples]),
            arrived=np.stack([sample.arrived for sample in samples]),
            within_ttft=within[_TTFT],
            within_itl=within[_ITL],
            within_both=within[_BOTH],
            ready=np.stack([sample.ready for sample in samples]),
            held=np.stack([sample.held for sample in samples]),
            cards=np.stack([sample.cards for sample in samples]),
            ttft_bins=self._bins[_TTFT],
            itl_bins=self._bins[_ITL],
        )

    def _judge(self, column: int, results: Results) -> None:
        start = self._samples[0].time - self._step_s
        step = ((results.arrival_s - start) / self._step_s).astype(np.int64)
        ttft_ms = np.where(results.lost, np.inf, results.ttft_ms)
        itl_ms = np.where(results.lost, np.inf, results.itl_ms)
        ttft, itl = self._objectives.met(column, ttft_ms, itl_ms)
        for kind, met in ((_TTFT, ttft), (_ITL, itl), (_BOTH, ttft & itl)):
            counts = np.bincount(step[met], minlength=self._within.shape[1])
            self._within[kind, :, column] += counts
        self._bins[_TTFT, column] += bins_of(ttft_ms)
        self._bins[_ITL, column] += bins_of(itl_ms)
        self._over += len(results)
        self._met += int(np.sum(ttft & itl))
