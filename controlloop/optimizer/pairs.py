"""What one replica can do: each distinct (model, load shape, targets, accelerator) sized once.

Servers that differ only in their rate ask the same question of a queue model, so they share one
answer. A server without load is a shape of its own: one token in, two out, no targets; there
ITL is that of a batch of one and TTFT that of a prompt of one token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.candidates import Fault, Tails
from controlloop.api.replicas import (
    Analysis,
    BoolArray,
    FloatArray,
    IntArray,
    Replicas,
    SizingStatus,
    Targets,
)
from controlloop.errors import error_in_words
from controlloop.optimizer.fleet import Fleet
from controlloop.optimizer.supply import ModelGroup, Supply
from controlloop.protocols import PercentileModel
from controlloop.queueing.confidence import Ask, size_asked
from controlloop.queueing.models import default_max_queue
from controlloop.queueing.service import MAX_BATCH
from controlloop.queueing.tails import Latency, Levels, percentile_of
from controlloop.units import PERCENT

IDLE_INPUT_TOKENS: Final = 1.0
IDLE_OUTPUT_TOKENS: Final = 2.0
# Beyond any batch that a queue model accepts, and far from the end of 64 bits.
_LARGEST_BATCH: Final = 2**40

_FAULTS: Final = {
    SizingStatus.TTFT_UNREACHABLE: Fault.TTFT_UNREACHABLE,
    SizingStatus.ITL_UNREACHABLE: Fault.ITL_UNREACHABLE,
    SizingStatus.NOT_CONVERGED: Fault.NOT_CONVERGED,
    SizingStatus.INVALID: Fault.INVALID_DATA,
}


@dataclass(frozen=True, slots=True, eq=False)
class GroupReplicas:
    """The pairs that one queue model evaluates."""

    group: ModelGroup
    replicas: Replicas


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """n distinct pairs, sized.

    Attributes:
        of: (S, A) the pair of each server and accelerator, -1 where there is no performance data
            or the accelerator is not asked for.
        perf: (n,) position of the performance data.
        max_batch: (n,) N.
        rate_rps: (n,) throughput at the greatest rate within the targets, 0 where there is none.
        fault: (n,) a `Fault`, 0 where there is none.
        target: (n,) the target that cannot be reached, in ms; else NaN.
        floor: (n,) the least latency possible instead, in ms; else NaN.
        percentile: (n,) percentile in per cent that both are of, 0 for the mean.
        note: (n,) position in `notes`, -1 for none.
        notes: what is wrong with the data, in words.
        predictor: predicts latencies of pairs.

    """

    of: IntArray
    perf: IntArray
    max_batch: IntArray
    rate_rps: FloatArray
    fault: IntArray
    target: FloatArray
    floor: FloatArray
    note: IntArray
    notes: tuple[str, ...]
    percentile: FloatArray
    predictor: GroupPredictor

    @property
    def fault_of(self) -> IntArray:
        """The fault of each server and accelerator, 0 where it is a candidate: (S, A)."""
        fault = np.full(self.of.shape, Fault.NO_PERF_DATA, dtype=np.int64)
        known = self.of >= 0
        fault[known] = self.fault[self.of[known]]
        return fault


@dataclass(frozen=True, slots=True, eq=False)
class GroupPredictor:
    """Latencies of pairs at a rate, by the queue model of each.

    Attributes:
        groups: the queue models with their pairs.
        group: (n,) position in `groups` of each pair.
        row: (n,) row of the pair within its group.
        levels: (n,) percentiles that targets ask for, None where all are means.

    """

    groups: tuple[GroupReplicas, ...]
    group: IntArray
    row: IntArray
    levels: Levels | None = None

    def predict(self, pair: IntArray, rate_rps: FloatArray) -> tuple[FloatArray, FloatArray]:
        """ITL and TTFT (k,) in ms of one replica at each rate, capped at saturation."""
        itl_ms, ttft_ms = np.full(len(pair), np.nan), np.full(len(pair), np.nan)
        for mine, analysis in self._analyses(pair, rate_rps):
            itl_ms[mine], ttft_ms[mine] = analysis.itl_ms, analysis.ttft_ms
        return itl_ms, ttft_ms

    def utilization(self, pair: IntArray, rate_rps: FloatArray) -> FloatArray:
        """Share (k,) of its batch that one replica has in service, capped at saturation."""
        utilization = np.full(len(pair), np.nan)
        for mine, analysis in self._analyses(pair, rate_rps):
            utilization[mine] = analysis.utilization
        return utilization

    def tails(self, pair: IntArray, rate_rps: FloatArray) -> Tails | None:
        """Percentiles that targets ask for, of one replica at each rate; see `Tails`."""
        if self.levels is None:
            return None
        itl_ms, ttft_ms = np.full((2, len(pair)), np.nan)
        levels = self.levels.take(pair)
        for at, each in enumerate(self.groups):
            model, mine = each.group.model, np.flatnonzero(self.group[pair] == at)
            if not isinstance(model, PercentileModel):
                continue
            replicas = each.replicas.take(self.row[pair[mine]])
            rate = np.minimum(rate_rps[mine], model.rate_range_rps(replicas)[1])
            for latency, found in ((Latency.ITL, itl_ms), (Latency.TTFT, ttft_ms)):
                level = levels.of(latency)[mine]
                found[mine] = percentile_of(model, replicas, rate, latency, level)
        return Tails(_percent(levels.itl), itl_ms, _percent(levels.ttft), ttft_ms)

    def _analyses(
        self, pair: IntArray, rate_rps: FloatArray
    ) -> Iterator[tuple[IntArray, Analysis]]:
        """The analysis of each queue model's pairs, and their positions in `pair`."""
        for at, each in enumerate(self.groups):
            mine = np.flatnonzero(self.group[pair] == at)
            replicas = each.replicas.take(self.row[pair[mine]])
            greatest = each.group.model.rate_range_rps(replicas)[1]
            yield mine, each.group.model.analyze(replicas, np.minimum(rate_rps[mine], greatest))


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """The K distinct questions that servers ask: columns of `table` (K, 10)."""

    table: FloatArray
    of_server: IntArray

    @classmethod
    def of(cls, fleet: Fleet) -> _Shapes:
        def unless_idle(values: FloatArray, otherwise: float) -> FloatArray:
            return np.where(fleet.idle, otherwise, values)

        columns = (
            fleet.model,
            fleet.idle,
            fleet.batch,
            unless_idle(fleet.input_tokens, IDLE_INPUT_TOKENS),
            unless_idle(fleet.output_tokens, IDLE_OUTPUT_TOKENS),
            unless_idle(fleet.itl_ms, 0.0),
            unless_idle(fleet.ttft_ms, 0.0),
            unless_idle(fleet.tps, 0.0),
            # A percentile of nothing is no question of its own.
            unless_idle(np.where(fleet.itl_ms > 0, fleet.itl_level, 0.0), 0.0),
            unless_idle(np.where(fleet.ttft_ms > 0, fleet.ttft_level, 0.0), 0.0),
        )
        stacked = np.column_stack(columns).astype(np.float64)
        table, of_server = np.unique(stacked, axis=0, return_inverse=True)
        return cls(table, of_server.reshape(-1))

    def whole(self, column: int) -> IntArray:
        return self.table[:, column].astype(np.int64)


def size_pairs(fleet: Fleet, supply: Supply) -> Pairs:
    """Size every distinct pair that a server of `fleet` could use."""
    shapes = _Shapes.of(fleet)
    allowed = fleet.allows(len(supply.accelerators))
    asked = _asked(shapes, allowed)
    perf_of = np.where(asked, supply.perf[shapes.whole(0)], -1)
    shape, accelerator = np.nonzero(perf_of >= 0)
    perf = perf_of[shape, accelerator]
    index = np.full(asked.shape, -1, dtype=np.int64)
    index[shape, accelerator] = np.arange(len(perf))
    table = shapes.table[shape]
    batch = _max_batch(supply, perf, table)
    targets = Targets(table[:, 5], table[:, 6], table[:, 7])
    levels = Levels(table[:, 8], table[:, 9]) if table[:, 8:].any() else None
    sized = _Sized.empty(len(perf), supply.note[perf], supply.notes)
    group, row = supply.group[perf], np.full(len(perf), -1, dtype=np.int64)
    groups = []
    for at, each in enumerate(supply.groups):
        mine = np.flatnonzero(group == at)
        row[mine] = np.arange(len(mine))
        replicas = Replicas(
            max_batch=batch[mine],
            max_queue=default_max_queue(batch[mine]),
            input_tokens=table[mine, 3],
            output_tokens=table[mine, 4],
            parameters=each.parameters[supply.group_row[perf[mine]]],
        )
        groups.append(GroupReplicas(each, replicas))
        unsure = each.uncertainty
        if unsure is not None:
            unsure = unsure.take(supply.group_row[perf[mine]])
        tails = None if levels is None else levels.take(mine)
        sized.fill(mine, each, replicas, Ask(targets.take(mine), tails, unsure))
    return Pairs(
        of=np.where(allowed, index[shapes.of_server], -1),
        perf=perf,
        max_batch=batch,
        rate_rps=sized.rate_rps,
        fault=sized.fault,
        target=sized.target,
        floor=sized.floor,
        note=sized.note,
        notes=tuple(sized.notes),
        percentile=sized.percentile,
        predictor=GroupPredictor(tuple(groups), group, row, levels),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sized:
    """The answers of the queue models as they come in; see `Pairs`."""

    rate_rps: FloatArray
    fault: IntArray
    target: FloatArray
    floor: FloatArray
    note: IntArray
    notes: list[str]
    percentile: FloatArray

    @classmethod
    def empty(cls, count: int, note: IntArray, notes: tuple[str, ...]) -> _Sized:
        return cls(
            rate_rps=np.zeros(count),
            fault=np.full(count, Fault.INVALID_DATA, dtype=np.int64),
            target=np.full(count, np.nan),
            floor=np.full(count, np.nan),
            note=note.copy(),
            notes=list(notes),
            percentile=np.zeros(count),
        )

    def fill(self, at: IntArray, group: ModelGroup, replicas: Replicas, ask: Ask) -> None:
        """Size `replicas` and put the answers at positions `at`."""
        if ask.levels is not None and not isinstance(group.model, PercentileModel):
            means = ask.levels.are_means
            self._refuse(at[~means], group, ask.levels.take(np.flatnonzero(~means)))
            kept = np.flatnonzero(means)
            at, replicas, ask = at[kept], replicas.take(kept), replace(ask.take(kept), levels=None)
        targets = ask.targets
        try:
            sizing = size_asked(group.model, replicas, ask)
        except Exception as error:  # noqa: BLE001 - a third party's model raises what it likes
            self.note[at] = len(self.notes)
            self.notes.append(f'queue model "{group.model.name}" failed ({error_in_words(error)})')
            return
        throughput = sizing.at.throughput_rps
        fault = np.zeros(len(at), dtype=np.int64)
        for status, each in _FAULTS.items():
            fault[sizing.status == status] = each
        # A rate that is no number would become a number of replicas that nobody checked.
        fault[(fault == 0) & ~(np.isfinite(throughput) & (throughput > 0))] = Fault.NOT_CONVERGED
        self.fault[at] = fault
        self.rate_rps[at] = np.where(fault == 0, throughput, 0.0)
        for which, target, floor in (
            (Fault.TTFT_UNREACHABLE, targets.ttft_ms, sizing.floor_ttft_ms),
            (Fault.ITL_UNREACHABLE, targets.itl_ms, sizing.floor_itl_ms),
        ):
            missed = fault == which
            self.target[at[missed]] = target[missed]
            self.floor[at[missed]] = floor[missed]
            if ask.levels is not None:
                level = ask.levels.ttft if which is Fault.TTFT_UNREACHABLE else ask.levels.itl
                self.percentile[at[missed]] = _percent(level[missed])
        for bad in np.flatnonzero(fault == Fault.INVALID_DATA):
            self.note[at[bad]] = len(self.notes)
            self.notes.append(_rejected(group, replicas, int(bad)))

    def _refuse(self, at: IntArray, group: ModelGroup, levels: Levels) -> None:
        """Pairs at `at` ask for percentiles of a model that knows none."""
        self.fault[at] = Fault.NO_PERCENTILES
        self.percentile[at] = _percent(np.maximum(levels.itl, levels.ttft))
        self.note[at] = len(self.notes)
        self.notes.append(
            f'queue model "{group.model.name}" knows means only, no percentiles, which the target'
            " asks for"
        )


def _percent(share: FloatArray) -> FloatArray:
    # What was given as 99.9 is 99.9 again.
    return np.round(share * PERCENT, 10)


def _rejected(group: ModelGroup, replicas: Replicas, at: int) -> str:
    numbers = zip(group.model.parameter_names, replicas.parameters[at].tolist(), strict=True)
    parameters = ", ".join(f"{name} {value:g}" for name, value in numbers)
    return (
        f'queue model "{group.model.name}" rejects max batch {replicas.max_batch[at]},'
        f" {replicas.input_tokens[at]:g} input and {replicas.output_tokens[at]:g} output tokens,"
        f" {parameters}{_cause(replicas, at)}"
    )


def _cause(replicas: Replicas, at: int) -> str:
    """What no queue model can work with, where it is that; a model has no words of its own."""
    if replicas.max_batch[at] > MAX_BATCH:
        return f": a batch is at most {MAX_BATCH}"
    if replicas.input_tokens[at] == 0 and replicas.output_tokens[at] <= 1:
        return ": a request without input and with at most one output token takes no time"
    return ""


def _asked(shapes: _Shapes, allowed: BoolArray) -> BoolArray:
    """Which accelerators some server of each shape may use: (K, A)."""
    asked = np.zeros((len(shapes.table), allowed.shape[1]), dtype=np.bool_)
    server, accelerator = np.nonzero(allowed)
    asked[shapes.of_server[server], accelerator] = True
    return asked


def _max_batch(supply: Supply, perf: IntArray, table: FloatArray) -> IntArray:
    """The batch of each pair: as given, else as the memory at its request length allows."""
    tokens = supply.max_batch[perf] * supply.at_tokens[perf].astype(np.float64)
    by_length = np.clip(np.floor(tokens / table[:, 4]), 1, _LARGEST_BATCH).astype(np.int64)
    by_data = np.where(table[:, 1] > 0, supply.max_batch[perf], by_length)
    given = table[:, 2].astype(np.int64)
    return np.where(given > 0, given, by_data)
