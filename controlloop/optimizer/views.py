"""The candidates of single servers as values, for people and for comparison one by one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from controlloop.api.candidates import Candidates, Fault
from controlloop.api.explanation import Candidate
from controlloop.api.system import NO_ACCELERATOR, Allocation
from controlloop.optimizer.mix_values import MixValues
from controlloop.optimizer.reasons import describe_fault


class View:
    """Candidates by server and accelerator, with what is predicted for each."""

    def __init__(self, candidates: Candidates) -> None:
        rows = np.arange(len(candidates))
        self._candidates = candidates
        self._position = {name: at for at, name in enumerate(candidates.servers)}
        self._names = (*candidates.accelerators, NO_ACCELERATOR)
        self._types = (*candidates.types, "")
        self._itl_ms, self._ttft_ms = candidates.predict(rows, candidates.replicas)
        self._tails = candidates.predict_tails(rows, candidates.replicas)
        self._power_w = candidates.predict_power(rows, candidates.replicas)

    def has(self, server: str) -> bool:
        """Whether the server could be considered at all."""
        return server in self._position

    def demand_rps(self, server: str) -> float:
        """The rate to be served."""
        return float(self._candidates.demand_rps[self._position[server]])

    def priority(self, server: str) -> int:
        """Of its class."""
        return int(self._candidates.priority[self._position[server]])

    def candidates(self, server: str) -> dict[str, Candidate]:
        """The server's candidates by accelerator, in order; the zero allocation has no name."""
        if server not in self._position:
            return {}
        start, end = self._candidates.start[self._position[server] :][:2]
        return {
            self._names[self._candidates.accelerator[row]]: self._candidate(row)
            for row in range(start, end)
        }

    def is_short(self, server: str, accelerator: str) -> bool:
        """Whether the candidate on `accelerator` has fewer replicas than the load needs."""
        start, end = self._candidates.start[self._position[server] :][:2]
        names = [self._names[at] for at in self._candidates.accelerator[start:end]]
        row = start + names.index(accelerator)
        return bool(self._candidates.replicas[row] < self._candidates.needed_replicas[row])

    def mix_value(self, server: str, allocation: Allocation) -> float | None:
        """What a mix of several accelerators is worth; None for one accelerator."""
        if len(allocation.variants) < 2 or server not in self._position:
            return None
        at = self._position[server]
        start, end = self._candidates.start[at : at + 2]
        names = [self._names[each] for each in self._candidates.accelerator[start:end]]
        if any(each.accelerator not in names for each in allocation.variants):
            return None
        mix = [
            (int(start) + names.index(each.accelerator), each.replicas)
            for each in allocation.variants
        ]
        return MixValues.of(self._candidates).of_mix(at, mix)

    def faults(self, server: str) -> Mapping[str, tuple[Fault, str]]:
        """Why accelerators are no candidates of the server, in words."""
        if server not in self._position:
            return {}
        infeasible, at = self._candidates.infeasible, self._position[server]
        first, last = np.searchsorted(infeasible.server, [at, at + 1])
        return {
            self._names[infeasible.accelerator[entry]]: (
                Fault(int(infeasible.fault[entry])),
                describe_fault(infeasible, self._candidates.accelerators, entry),
            )
            for entry in range(first, last)
        }

    def _candidate(self, row: int) -> Candidate:
        table = self._candidates
        power_w = float(self._power_w[row])
        itl_tail, ttft_tail = (None, None) if self._tails is None else self._tails.of(row)
        return Candidate(
            allocation=Allocation(
                accelerator=self._names[table.accelerator[row]],
                replicas=int(table.replicas[row]),
                max_batch=int(table.max_batch[row]),
                cost_per_hour=float(table.cost[row]),
                itl_ms=float(self._itl_ms[row]),
                ttft_ms=float(self._ttft_ms[row]),
                load=table.loads[table.server[row]],
                itl_tail=itl_tail,
                ttft_tail=ttft_tail,
            ),
            rate_rps=float(table.rate_rps[row]),
            card_type=self._types[table.card_type[row]],
            cards=int(table.replicas[row] * table.cards_per_replica[row]),
            value=float(table.value[row]),
            power_w=None if np.isnan(power_w) else power_w,
        )
