"""What solvers choose from: every allocation that would serve a server, as arrays.

No Python object stands for a (server, accelerator) pair. The candidates of server s are the
rows `start[s]` to `start[s + 1]`, in the order of the accelerators; servers are in order of
name. Rates in requests/s, times in ms, costs in cents/hour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from controlloop.api.power import PowerCurves
from controlloop.api.replicas import FloatArray, IntArray
from controlloop.api.solution import Unserved
from controlloop.api.system import Load, Tail


class Fault(IntEnum):
    """Why an accelerator is no candidate of a server."""

    NO_PERF_DATA = 1
    TTFT_UNREACHABLE = 2
    ITL_UNREACHABLE = 3
    NOT_CONVERGED = 4
    INVALID_DATA = 5
    ABOVE_MAXIMUM = 6
    NO_PERCENTILES = 7


@dataclass(frozen=True, slots=True, eq=False)
class Infeasible:
    """The (server, accelerator) pairs that are no candidates, and why; k of them.

    Attributes:
        server: (k,) position in `Candidates.servers`, ascending.
        accelerator: (k,) position in `Candidates.accelerators`, -1 for one that does not exist.
        fault: (k,) a `Fault`.
        target: (k,) what was asked for: ms, or the replicas allowed; NaN where it says nothing.
        floor: (k,) the least that is possible, in the unit of `target`.
        note: (k,) position in `notes`, -1 for none.
        notes: what is wrong with the data, in words.
        percentile: (k,) percentile, in per cent, that `target` and `floor` are of; 0 is the mean.
        confidence: probability with which targets are to hold, 0 by the parameters as they are.

    """

    server: IntArray
    accelerator: IntArray
    fault: IntArray
    target: FloatArray
    floor: FloatArray
    note: IntArray
    notes: tuple[str, ...]
    percentile: FloatArray
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class CurrentVariants:
    """What runs now, one entry for each accelerator that a server runs on; k entries.

    Attributes:
        server: (k,) position in `Candidates.servers`.
        accelerator: (k,) position in `Candidates.accelerators`, -1 for one not known.
        replicas: (k,) replicas of it.
        cost: (k,) their cost, as the data gives it.

    """

    server: IntArray
    accelerator: IntArray
    replicas: IntArray
    cost: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """Percentiles that targets ask for, (k,) each; NaN where the target is a mean.

    Attributes:
        itl_percentile: in per cent.
        itl_ms: ITL at that percentile.
        ttft_percentile: in per cent.
        ttft_ms: TTFT at that percentile.

    """

    itl_percentile: FloatArray
    itl_ms: FloatArray
    ttft_percentile: FloatArray
    ttft_ms: FloatArray

    def of(self, at: int) -> tuple[Tail | None, Tail | None]:
        """ITL and TTFT of entry `at`, None where its target is a mean."""
        return (
            _tail(self.itl_percentile[at], self.itl_ms[at]),
            _tail(self.ttft_percentile[at], self.ttft_ms[at]),
        )


def _tail(percentile: float, ms: float) -> Tail | None:
    return Tail(float(percentile), float(ms)) if math.isfinite(ms) else None


class Predictor(Protocol):
    """Predicts latencies; solvers call it through `Candidates.predict`."""

    def predict(self, pair: IntArray, rate_rps: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ITL and TTFT (k,) in ms of one replica at each rate, capped at saturation."""
        ...

    def utilization(self, pair: IntArray, rate_rps: FloatArray) -> FloatArray:
        """Share (k,) of its batch that one replica has in service, capped at saturation."""
        ...

    def tails(self, pair: IntArray, rate_rps: FloatArray) -> Tails | None:
        """Percentiles of one replica at each rate, as `predict`; None where nobody asks."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of S servers on A accelerators of T card types; m rows in all.

    Attributes:
        servers: S names in ascending order. Servers that no accelerator could ever suit for
            what their own data says are not here, only in `unserved`.
        loads: S loads as they were given.
        accelerators: A names, in the order that breaks ties.
        types: T names of card types.
        priority: (S,) 1 is the highest.
        demand_rps: (S,) the rate to be served.
        current_accelerator: (S,) position in `accelerators`, -1 for none or one not known.
        current_replicas: (S,) replicas now.
        current_cost: (S,) cost now, as the data gives it.
        current_variants: the same by accelerator, where a server runs on several.
        current_pair: (S,) what the predictor knows the current accelerator by, -1 where nothing
            runs or nothing can be predicted.
        current_units: (S,) accelerators of one current replica, 0 where that is not known.
        start: (S + 1,) offsets of each server's rows.
        server: (m,) position in `servers`.
        accelerator: (m,) position in `accelerators`; -1 is the zero allocation.
        card_type: (m,) position in `types`; -1 for the zero allocation.
        cards_per_replica: (m,) cards that one replica takes.
        max_batch: (m,) requests in service at most in one replica.
        rate_rps: (m,) lambda*, the throughput of one replica at the greatest rate within its
            targets; 0 for the zero allocation.
        needed_replicas: (m,) replicas that the demand and the minimum need.
        replicas: (m,) those, cut to the most that is allowed.
        cost: (m,) of all `replicas`.
        value: (m,) what solvers make least: what the objective says of getting there from what
            runs now.
        pair: (m,) what the predictor knows the row by.
        infeasible: the pairs that are no candidates.
        unserved: servers without any row, with reasons in words.
        predictor: predicts latencies.
        power: of one unit of each accelerator.

    """

    servers: tuple[str, ...]
    loads: tuple[Load, ...]
    accelerators: tuple[str, ...]
    types: tuple[str, ...]
    priority: IntArray
    demand_rps: FloatArray
    current_accelerator: IntArray
    current_replicas: IntArray
    current_cost: FloatArray
    current_variants: CurrentVariants
    current_pair: IntArray
    current_units: IntArray
    start: IntArray
    server: IntArray
    accelerator: IntArray
    card_type: IntArray
    cards_per_replica: IntArray
    max_batch: IntArray
    rate_rps: FloatArray
    needed_replicas: IntArray
    replicas: IntArray
    cost: FloatArray
    value: FloatArray
    pair: IntArray
    infeasible: Infeasible
    unserved: tuple[Unserved, ...]
    predictor: Predictor
    power: PowerCurves

    def __len__(self) -> int:
        return len(self.server)

    @property
    def cards(self) -> IntArray:
        """Cards that each row takes in all: (m,)."""
        return self.replicas * self.cards_per_replica

    def rows_by_value(self) -> IntArray:
        """All rows, still grouped by server, least value first; ties in order of accelerator."""
        # lexsort is stable, so equal values stay in the order of the accelerators.
        return np.lexsort((self.value, self.server))

    def capacity_by_type(self, capacity: Mapping[str, int]) -> IntArray:
        """Cards of each of `types`: (T,); a type that is not named has none."""
        return np.array([capacity.get(name, 0) for name in self.types], dtype=np.int64)

    def predict(
        self, rows: IntArray, replicas: IntArray | FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """ITL and TTFT in ms of `rows` (k,) when `replicas` (k,) share the server's demand.

        The load of a replica is capped at saturation; the zero allocation has zeros.
        """
        itl_ms, ttft_ms = np.zeros(len(rows)), np.zeros(len(rows))
        some = (self.accelerator[rows] >= 0) & (replicas > 0)
        chosen = rows[some]
        rate_rps = self.demand_rps[self.server[chosen]] / replicas[some]
        itl_ms[some], ttft_ms[some] = self.predictor.predict(self.pair[chosen], rate_rps)
        return itl_ms, ttft_ms

    def predict_tails(self, rows: IntArray, replicas: IntArray | FloatArray) -> Tails | None:
        """Percentiles that targets ask for, of `rows` (k,) as in `predict`; None for nobody."""
        some = (self.accelerator[rows] >= 0) & (replicas > 0)
        chosen = rows[some]
        rate_rps = self.demand_rps[self.server[chosen]] / replicas[some]
        found = self.predictor.tails(self.pair[chosen], rate_rps)
        if found is None:
            return None
        whole = np.full((4, len(rows)), np.nan)
        whole[:, some] = found.itl_percentile, found.itl_ms, found.ttft_percentile, found.ttft_ms
        return Tails(*whole)

    def predict_power(self, rows: IntArray, replicas: IntArray | FloatArray) -> FloatArray:
        """Power (k,) in W of `rows` (k,) when `replicas` (k,) share the server's demand.

        0 for no replicas, NaN where the accelerator has no power data.
        """
        power_w = np.zeros(len(rows))
        some = (self.accelerator[rows] >= 0) & (replicas > 0)
        chosen, accelerator = rows[some], self.accelerator[rows[some]]
        rate_rps = self.demand_rps[self.server[chosen]] / replicas[some]
        utilization = self.predictor.utilization(self.pair[chosen], rate_rps)
        units = self.cards_per_replica[chosen] // self.power.multiplicity[accelerator]
        power_w[some] = replicas[some] * units * self.power.at(accelerator, utilization)
        return power_w

    def predict_current(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """ITL and TTFT in ms and power in W of what runs now, each (S,), for the same demand.

        NaN where nothing runs, and where there is no data to predict from.
        """
        itl_ms, ttft_ms, power_w = np.full((3, len(self.servers)), np.nan)
        some = np.flatnonzero((self.current_pair >= 0) & (self.current_replicas > 0))
        pair, accelerator = self.current_pair[some], self.current_accelerator[some]
        rate_rps = self.demand_rps[some] / self.current_replicas[some]
        itl_ms[some], ttft_ms[some] = self.predictor.predict(pair, rate_rps)
        each_w = self.power.at(accelerator, self.predictor.utilization(pair, rate_rps))
        power_w[some] = self.current_replicas[some] * self.current_units[some] * each_w
        return itl_ms, ttft_ms, power_w
