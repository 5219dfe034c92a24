"""From a system to candidates, on arrays from end to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates, CurrentVariants, Fault, Infeasible
from controlloop.api.decision import ServerConstraint
from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.api.solution import Unserved
from controlloop.api.system import Objective, System
from controlloop.optimizer.batches import SizedFleet, size_fleet
from controlloop.optimizer.expenses import Expenses, expenses
from controlloop.optimizer.fleet import DemandRule, Fleet, read_fleet
from controlloop.optimizer.mix_values import SWITCH_PENALTY, MixValues
from controlloop.optimizer.pairs import Pairs
from controlloop.optimizer.reasons import why_no_candidate
from controlloop.optimizer.supply import ModelSource, Supply, read_supply

NO_CONSTRAINTS: Final[Mapping[str, ServerConstraint]] = MappingProxyType({})
# A sized rate is known to 1e-9: a demand that is so little above a whole number of replicas
# needs no further one.
RATE_TOLERANCE: Final = 1e-9
# More than these could not be counted in 64 bits, whatever is done with them.
_MOST_CARDS: Final = 10**15
_MOST_REPLICAS: Final = 1e18


def build_candidates(
    system: System,
    model_of: ModelSource,
    *,
    rule: DemandRule = DemandRule.DOCUMENTED,
    constraints: Mapping[str, ServerConstraint] = NO_CONSTRAINTS,
) -> Candidates:
    """Every allocation that would serve a server of `system`.

    Args:
        system: accelerators, performance data, classes and servers.
        model_of: gives the queue model of a name, or raises UnknownPluginError.
        rule: what a server's demand is.
        constraints: bounds by server; one with `keep` must not be among the servers.

    """
    supply = read_supply(system, model_of)
    fleet = read_fleet(system, supply.models, rule, constraints)
    sized = size_fleet(fleet, supply, RATE_TOLERANCE)
    pairs = sized.pairs
    rows = _Rows.of(fleet, supply, pairs)
    infeasible = _infeasible(fleet, pairs, rows.above, system.options.confidence)
    current = _Current.of(fleet, supply, sized)
    start = np.searchsorted(rows.server, np.arange(len(fleet) + 1))
    candidates = Candidates(
        servers=tuple(server.name for server in fleet.servers),
        loads=tuple(server.current.load for server in fleet.servers),
        accelerators=supply.accelerators,
        types=supply.types,
        priority=fleet.priority,
        demand_rps=fleet.demand_rps,
        current_accelerator=current.accelerator,
        current_replicas=current.replicas,
        current_cost=current.cost,
        current_variants=_variants(fleet, supply),
        current_pair=current.pair,
        current_units=current.units,
        start=start.astype(np.int64),
        server=rows.server,
        accelerator=rows.accelerator,
        card_type=rows.card_type,
        cards_per_replica=rows.cards_per_replica,
        max_batch=rows.max_batch,
        rate_rps=rows.rate_rps,
        needed_replicas=rows.needed,
        replicas=rows.replicas,
        cost=rows.cost,
        value=rows.cost,
        pair=rows.pair,
        infeasible=infeasible,
        unserved=_unserved(fleet, supply, start, infeasible),
        predictor=pairs.predictor,
        power=supply.power,
    )
    value = current.value(rows, expenses(candidates, system.options))
    several = np.bincount(candidates.current_variants.server, minlength=len(fleet)) > 1
    if system.options.objective is Objective.COST and several.any():
        # Where several variants run, each of them is kept or given up.
        mixed = MixValues.of(candidates).of_rows(candidates)
        value = np.where(several[candidates.server], mixed, value)
    return replace(candidates, value=value)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of `Candidates`, and those that need more replicas than are allowed."""

    server: IntArray
    accelerator: IntArray
    card_type: IntArray
    cards_per_replica: IntArray
    max_batch: IntArray
    rate_rps: FloatArray
    needed: IntArray
    replicas: IntArray
    cost: FloatArray
    pair: IntArray
    above: _Above

    @classmethod
    def of(cls, fleet: Fleet, supply: Supply, pairs: Pairs) -> _Rows:
        server, accelerator = np.nonzero(pairs.fault_of == 0)
        pair = pairs.of[server, accelerator]
        perf, rate_rps = pairs.perf[pair], pairs.rate_rps[pair]
        cards = supply.per_replica[perf] * supply.multiplicity[accelerator]
        share = fleet.demand_rps[server] / rate_rps
        needed = np.maximum(np.ceil(share * (1 - RATE_TOLERANCE)), fleet.min_replicas[server])
        needed = np.minimum(needed, _MOST_REPLICAS).astype(np.int64)
        allowed = np.minimum(fleet.max_replicas[server], _MOST_CARDS // cards)
        replicas = np.minimum(needed, allowed)
        keep = _best_within_bounds(len(fleet), server, needed, replicas, rate_rps)
        above = np.flatnonzero(~keep)
        keep &= _first_of_zeros(server, replicas, keep)
        none = replicas == 0
        unit_cost = supply.per_replica[perf] * supply.cost_per_hour[accelerator]
        return cls(
            server=server[keep],
            accelerator=np.where(none, -1, accelerator)[keep],
            card_type=np.where(none, -1, supply.card_type[accelerator])[keep],
            cards_per_replica=np.where(none, 0, cards)[keep],
            max_batch=np.where(none, 0, pairs.max_batch[pair])[keep],
            rate_rps=np.where(none, 0.0, rate_rps)[keep],
            needed=needed[keep],
            replicas=replicas[keep],
            cost=(replicas * unit_cost)[keep],
            pair=pair[keep],
            above=_Above(server[above], accelerator[above], needed[above], allowed[above]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Above:
    """Pairs that need more replicas than are allowed, where another accelerator does not."""

    server: IntArray
    accelerator: IntArray
    needed: IntArray
    allowed: IntArray


def _best_within_bounds(
    servers: int, server: IntArray, needed: IntArray, replicas: IntArray, rate_rps: FloatArray
) -> BoolArray:
    """Rows that serve the demand whole; where a server has none, its row that serves most."""
    whole = replicas == needed
    short = ~(np.bincount(server, weights=whole, minlength=servers) > 0)[server]
    by_served = np.lexsort((-replicas * rate_rps, server))
    first = by_served[np.unique(server[by_served], return_index=True)[1]]
    most = np.zeros(len(server), dtype=np.bool_)
    most[first] = True
    return np.asarray(whole | (short & most), dtype=np.bool_)


def _first_of_zeros(server: IntArray, replicas: IntArray, among: BoolArray) -> BoolArray:
    """All rows with replicas, and the first of a server's rows without: they are all alike."""
    zeros = np.flatnonzero(among & (replicas == 0))
    keep = np.asarray(replicas > 0, dtype=np.bool_)
    keep[zeros[np.unique(server[zeros], return_index=True)[1]]] = True
    return keep


@dataclass(frozen=True, slots=True, eq=False)
class _Current:
    """What runs now, as the data gives it: (S,) each; `batch` 0 counts no change of batch."""

    accelerator: IntArray
    replicas: IntArray
    cost: FloatArray
    unknown: BoolArray
    pair: IntArray
    units: IntArray
    batch: IntArray

    @classmethod
    def of(cls, fleet: Fleet, supply: Supply, sized: SizedFleet) -> _Current:
        pairs = sized.pairs
        position = {name: at for at, name in enumerate(supply.accelerators)}
        now = [server.current for server in fleet.servers]
        accelerator = np.array([position.get(c.accelerator, -1) for c in now], dtype=np.int64)
        pair, units = np.full((2, len(now)), -1, dtype=np.int64)
        known = np.flatnonzero(accelerator >= 0)
        pair[known] = sized.preferred[known, accelerator[known]]
        # What a queue model does not accept is not predicted either.
        known = np.flatnonzero(pair >= 0)
        pair[known[pairs.fault[pair[known]] == Fault.INVALID_DATA]] = -1
        known = np.flatnonzero(pair >= 0)
        units[known] = supply.per_replica[pairs.perf[pair[known]]]
        return cls(
            accelerator=accelerator,
            replicas=np.array([c.replicas for c in now], dtype=np.int64),
            cost=np.array([c.cost_per_hour for c in now], dtype=np.float64),
            unknown=np.array(
                [bool(c.accelerator) and c.accelerator not in position for c in now],
                dtype=np.bool_,
            ),
            pair=pair,
            units=np.maximum(units, 0),
            batch=sized.batch,
        )

    def value(self, rows: _Rows, expense: Expenses) -> FloatArray:
        """The transition penalty of each row: dearer is worse, and so is a switch."""
        before = expense.current[rows.server]
        same = self.accelerator[rows.server] == rows.accelerator
        same &= ~self.unknown[rows.server]
        batch = self.batch[rows.server]
        same &= (batch == 0) | (batch == rows.max_batch)
        unchanged = same & (self.replicas[rows.server] == rows.replicas)
        change = expense.rows - before
        switch = np.where(same, 0.0, SWITCH_PENALTY * (before + expense.rows))
        return np.where(unchanged, 0.0, switch + change)


def _variants(fleet: Fleet, supply: Supply) -> CurrentVariants:
    """What runs now, accelerator by accelerator; what runs nowhere may still have a cost."""
    position = {name: at for at, name in enumerate(supply.accelerators)}
    now = [
        (at, position.get(each.accelerator, -1), each.replicas, each.cost_per_hour)
        for at, server in enumerate(fleet.servers)
        for each in (server.current.variants or (server.current,))
    ]
    server, accelerator, replicas, cost = zip(*now, strict=True) if now else ((), (), (), ())
    return CurrentVariants(
        server=np.array(server, dtype=np.int64),
        accelerator=np.array(accelerator, dtype=np.int64),
        replicas=np.array(replicas, dtype=np.int64),
        cost=np.array(cost, dtype=np.float64),
    )


def _infeasible(fleet: Fleet, pairs: Pairs, above: _Above, confidence: float) -> Infeasible:
    """Pairs that are asked for and are no candidates, in order of server and accelerator."""
    fault = pairs.fault_of
    wrong = fleet.allows(fault.shape[1]) & (fault > 0)
    server, accelerator = np.nonzero(wrong)
    pair = pairs.of[server, accelerator]
    known = pair >= 0
    target, floor = np.full(len(pair), np.nan), np.full(len(pair), np.nan)
    note, percentile = np.full(len(pair), -1, dtype=np.int64), np.zeros(len(pair))
    target[known], floor[known] = pairs.target[pair[known]], pairs.floor[pair[known]]
    note[known], percentile[known] = pairs.note[pair[known]], pairs.percentile[pair[known]]
    server = np.concatenate([server, above.server])
    accelerator = np.concatenate([accelerator, above.accelerator])
    order = np.lexsort((accelerator, server))
    beyond = np.full(len(above.server), Fault.ABOVE_MAXIMUM, dtype=np.int64)
    return Infeasible(
        server=server[order],
        accelerator=accelerator[order],
        fault=np.concatenate([fault[wrong], beyond])[order],
        target=np.concatenate([target, above.allowed])[order],
        floor=np.concatenate([floor, above.needed])[order],
        note=np.concatenate([note, np.full_like(beyond, -1)])[order],
        notes=pairs.notes,
        percentile=np.concatenate([percentile, np.zeros(len(beyond))])[order],
        confidence=confidence,
    )


def _unserved(
    fleet: Fleet, supply: Supply, start: IntArray, infeasible: Infeasible
) -> tuple[Unserved, ...]:
    """Servers that cannot be considered, and those without any candidate; by name."""
    empty = np.flatnonzero(np.diff(start) == 0)
    found = [
        why_no_candidate(fleet.servers[at], infeasible, supply.accelerators, int(at))
        for at in empty
    ]
    return tuple(sorted((*fleet.unserved, *found), key=lambda each: each.server))
