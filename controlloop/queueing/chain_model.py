"""A queue model made of service times and a birth-death chain; every model here is one.

See `service` for the times, `chain` for the stationary state and `sizing` for the limits. Of the
requests present, those in service depart at mu(j). By detailed balance completions come from
state j + 1 as often as arrivals are accepted in state j. So a mean over requests, each weighed
with the state that it is served in, is one over what accepted arrivals meet, with themselves
counted in; nothing is subtracted, and Little's law holds for the time in service.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final, TypeVar

import numpy as np

from controlloop.api.replicas import (
    Analysis,
    BoolArray,
    FloatArray,
    IntArray,
    Percentiles,
    Replicas,
    Sizing,
    SizingStatus,
    Targets,
)
from controlloop.queueing.chain import Chain, Met
from controlloop.queueing.service import (
    Reading,
    Readings,
    ServiceTimes,
    numbers_are_valid,
    restoring,
    times_are_valid,
)
from controlloop.queueing.sizing import Latency, Limits, LoadRange, limits
from controlloop.queueing.spread import Spread, latency_percentile, left_after_averaging
from controlloop.units import MILLISECONDS_PER_SECOND

LEAST_LOAD: Final = 0.001
MOST_LOAD: Final = 0.999
TPS_MARGIN: Final = 0.9

# Entries worked on at once: a dozen arrays of this length fit the processor's cache. A pair
# counts as some, whatever tables it has: that many arrays have an entry for each.
_BLOCK_ENTRIES: Final = 1 << 17
_ENTRIES_OF_PAIR: Final = 16
# Stands for a rate of 0, whose logarithm is not finite.
_LEAST_RATIO = 1e-300

_Result = TypeVar("_Result", Analysis, Sizing)


class ChainModel(ABC):
    """Poisson arrivals, at most N + Q requests, those that find a slot in service by its times.

    Output tokens between 0 and 1 (a mean over requests of which some gave none) count as 1: a
    request that is served at all is prefilled. A pair is invalid where a number is negative or
    not finite, where batch or queue is out of range, where no output token is asked for, where
    a request takes no time or more than can be reckoned with, and where not even one request
    finds place.
    """

    __slots__ = ()

    @abstractmethod
    def times(self, replicas: Replicas) -> ServiceTimes:
        """The service times of n pairs; those of an invalid pair may be anything."""

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        """0.001 mu(1) and 0.999 mu(slots), each (n,); NaN where the pair is invalid."""
        ends = np.full((2, len(replicas)), np.nan)
        valid = np.flatnonzero(self._valid(replicas))
        ends[:, valid] = _rate_range(self.times(replicas.take(valid)))
        return ends[0], ends[1]

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        """The stationary state at `rate_rps` (n,), defined for every finite rate >= 0.

        At rate 0 it is what a single request would see. NaN where pair or rate is invalid.
        """
        values = _empty_analysis(len(replicas))
        valid = self._valid(replicas) & (rate_rps >= 0) & np.isfinite(rate_rps)
        for pairs in self._blocks(replicas, valid):
            _place(values, pairs, self._block(replicas, pairs).analyze(rate_rps[pairs]))
        return values

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        """The largest rate in the range at which every target holds.

        A TPS target caps the rate at 0.9 of the greatest one. Where a target is out of reach,
        the rate that it allows is 0. Where the search did not converge (1e-9 relative), the
        rate of that target is one at which it holds. A negative or NaN target makes a pair
        invalid: its rates and floors are NaN.
        """
        count = len(replicas)
        sizing = Sizing(
            status=np.full(count, SizingStatus.INVALID, dtype=np.int64),
            rate_rps=np.zeros(count),
            rate_ttft_rps=np.full(count, np.nan),
            rate_itl_rps=np.full(count, np.nan),
            rate_tps_rps=np.full(count, np.nan),
            floor_ttft_ms=np.full(count, np.nan),
            floor_itl_ms=np.full(count, np.nan),
            at=_empty_analysis(count),
        )
        asked = (targets.itl_ms >= 0) & (targets.ttft_ms >= 0) & (targets.tps >= 0)
        for pairs in self._blocks(replicas, self._valid(replicas) & asked):
            _place(sizing, pairs, self._block(replicas, pairs).size(targets.take(pairs)))
        return sizing

    def percentiles(
        self, replicas: Replicas, rate_rps: FloatArray, levels: Sequence[float]
    ) -> Percentiles:
        """Percentiles of TTFT and ITL at `rate_rps` (n,); see `spread` for the laws assumed.

        Raises:
            ValueError: a level is not between 0 and 1.

        """
        if not all(0 < level < 1 for level in levels):
            raise ValueError(f"levels of percentiles must lie between 0 and 1, got {levels}")
        shape = (len(levels), len(replicas))
        found = Percentiles(tuple(levels), np.full(shape, np.nan), np.full(shape, np.nan))
        valid = self._valid(replicas) & (rate_rps >= 0) & np.isfinite(rate_rps)
        for pairs in self._blocks(replicas, valid):
            block = self._block(replicas, pairs)
            ttft, itl = block.percentiles(rate_rps[pairs], found.levels)
            found.ttft_ms[:, pairs], found.itl_ms[:, pairs] = ttft, itl
        return found

    def _valid(self, replicas: Replicas) -> BoolArray:
        with np.errstate(all="ignore"):
            return numbers_are_valid(replicas) & times_are_valid(self.times(replicas))

    def _blocks(self, replicas: Replicas, valid: BoolArray) -> Iterator[IntArray]:
        """Rows of the valid pairs, in blocks of bounded memory."""
        rows = np.flatnonzero(valid)
        if len(rows):
            entries = np.maximum(self.times(replicas.take(rows)).entries, _ENTRIES_OF_PAIR)
            block = np.cumsum(entries) // _BLOCK_ENTRIES
            yield from np.split(rows, np.flatnonzero(np.diff(block)) + 1)

    def _block(self, replicas: Replicas, pairs: IntArray) -> _Block:
        some = replicas.take(pairs)
        return _Block.of(self.times(some), some.max_batch, some.max_queue)


def _empty_analysis(count: int) -> Analysis:
    return Analysis(*np.full((len(fields(Analysis)), count), np.nan))


def _place(whole: _Result, pairs: IntArray, part: _Result) -> None:
    """Write the results of some pairs into those of all."""
    for field in fields(whole):
        target, source = getattr(whole, field.name), getattr(part, field.name)
        if isinstance(target, Analysis):
            _place(target, pairs, source)
        else:
            target[pairs] = source


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Valid pairs that are worked on at once."""

    times: ServiceTimes
    chain: Chain
    readings: Readings
    max_batch: FloatArray

    @classmethod
    def of(cls, times: ServiceTimes, max_batch: IntArray, max_queue: IntArray) -> _Block:
        readings = times.readings()
        places = max_queue + times.unused
        chain = Chain(readings.states, readings.departures, places)
        return cls(times, chain, readings, max_batch.astype(np.float64))

    @property
    def departure_ms(self) -> FloatArray:
        """Mean time between departures of a full replica."""
        return self.chain.full_ms

    def _log_load(self, rate_rps: FloatArray) -> FloatArray:
        load = rate_rps / MILLISECONDS_PER_SECOND * self.departure_ms
        return np.log(np.maximum(load, _LEAST_RATIO))

    def analyze(self, rate_rps: FloatArray) -> Analysis:
        """The stationary state at `rate_rps`, NaN where that is NaN."""
        readings = self.readings
        means = _Means(self.chain, self._log_load(rate_rps))
        met = means.met(None)
        throughput_per_ms = rate_rps / MILLISECONDS_PER_SECOND * met.accepted
        wait_ms = means.of(readings.held) + met.awaited * self.departure_ms
        wait_ms = np.where(rate_rps == 0, 0.0, wait_ms)
        prefill_ms, itl_ms = means.of(readings.prefill), means.of(readings.itl)
        in_service = throughput_per_ms * means.of(readings.service)
        return Analysis(
            throughput_rps=rate_rps * met.accepted,
            response_ms=wait_ms + prefill_ms + self.times.decode_steps * itl_ms,
            wait_ms=wait_ms,
            in_service=in_service,
            waiting=throughput_per_ms * wait_ms,
            prefill_ms=prefill_ms,
            itl_ms=itl_ms,
            utilization=in_service / self.max_batch,
            max_rate_rps=np.where(np.isnan(rate_rps), np.nan, _rate_range(self.times)[1]),
        )

    def size(self, targets: Targets) -> Sizing:
        """The largest rate at which the targets hold."""
        readings, chain = self.readings, self.chain
        none = np.zeros(len(self.max_batch))
        ttft = Latency.of(chain, (readings.prefill, readings.held), self.departure_ms)
        itl = Latency.of(chain, (readings.itl,), none)
        least, most = _rate_range(self.times)
        full = most / MOST_LOAD
        low, high = np.log(least / full), np.log(most / full)
        ttft_range = LoadRange.of(ttft.chain, low, high)
        same = itl.chain.table is ttft.chain.table
        itl_range = ttft_range if same else LoadRange.of(itl.chain, low, high)
        by_ttft = limits(ttft, self.times, ttft_range, targets.ttft_ms)
        by_itl = limits(itl, self.times, itl_range, targets.itl_ms)
        rate_ttft, rate_itl = (
            np.where(by.log_load < high, np.exp(by.log_load) * full, most) * by.reachable
            for by in (by_ttft, by_itl)
        )
        rate_tps = np.where(targets.tps > 0, TPS_MARGIN * most, most)
        status = _status(by_ttft, by_itl)
        done = status == SizingStatus.OK
        rate = np.where(done, np.minimum(np.minimum(rate_ttft, rate_itl), rate_tps), 0.0)
        return Sizing(
            status=status,
            rate_rps=rate,
            rate_ttft_rps=rate_ttft,
            rate_itl_rps=rate_itl,
            rate_tps_rps=rate_tps,
            floor_ttft_ms=ttft.at(ttft_range.met_low),
            floor_itl_ms=itl.at(itl_range.met_low),
            at=self.analyze(np.where(done, rate, np.nan)),
        )

    def percentiles(
        self, rate_rps: FloatArray, levels: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        """Percentiles (L, n) of TTFT and ITL at `rate_rps`."""
        readings, times = self.readings, self.times
        means = _Means(self.chain, self._log_load(rate_rps))
        met = means.met(None)
        batch = np.minimum(1 + met.level, times.slots)
        ttft = Spread(
            mean=means.of(readings.prefill) + means.of(readings.held),
            variance=means.variance(readings.prefill) + times.prefill_variance(batch),
        )
        itl = Spread(
            mean=means.of(readings.itl),
            variance=means.variance(readings.itl) * left_after_averaging(restoring(times, batch))
            + times.itl_variance(batch),
        )
        wait = Spread(
            mean=met.queue_mean * self.departure_ms,
            variance=(met.queue_mean + met.queue_variance) * self.departure_ms**2,
        )
        return (
            np.array([latency_percentile(ttft, level, wait, met.waits) for level in levels]),
            np.array([latency_percentile(itl, level) for level in levels]),
        )


class _Means:
    """Means over what accepted arrivals meet; each table is gone through once."""

    def __init__(self, chain: Chain, log_load: FloatArray) -> None:
        self._chain = chain
        self._log_load = log_load
        self._met: dict[int, Met] = {}

    def met(self, table: FloatArray | None) -> Met:
        """What arrivals meet, with the mean of `table`."""
        key = id(table)
        if key not in self._met:
            self._met[key] = self._chain.reading(table).met(self._log_load)
        return self._met[key]

    def of(self, reading: Reading) -> FloatArray:
        """The mean of a reading: (n,)."""
        return reading.alone + reading.scale * self.met(reading.table).level

    def variance(self, reading: Reading) -> FloatArray:
        """The variance of a reading: (n,)."""
        table = self._chain.states.position if reading.table is None else reading.table
        mean = self.met(reading.table).level
        square = self._chain.reading(table * table).met(self._log_load).level
        return reading.scale**2 * np.maximum(square - mean * mean, 0.0)


def _status(by_ttft: Limits, by_itl: Limits) -> IntArray:
    status = np.full(len(by_ttft.reachable), SizingStatus.OK, dtype=np.int64)
    status[~(by_ttft.converged & by_itl.converged)] = SizingStatus.NOT_CONVERGED
    status[~by_itl.reachable] = SizingStatus.ITL_UNREACHABLE
    status[~by_ttft.reachable] = SizingStatus.TTFT_UNREACHABLE
    return status


def _rate_range(times: ServiceTimes) -> tuple[FloatArray, FloatArray]:
    alone_ms = times.departure_ms(np.ones(len(times.slots)))
    full_ms = times.departure_ms(times.slots)
    least = LEAST_LOAD * MILLISECONDS_PER_SECOND / alone_ms
    most = MOST_LOAD * MILLISECONDS_PER_SECOND / full_ms
    return least, most
