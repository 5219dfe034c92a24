"""Measurements from what the collector saw, and what of it is none.

The coherence gate: what was measured while something changed, or under another batch size or on
another accelerator than the labels say now, tells nothing of the pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.holds import HoldReason
from controlloop.api.observation import Observation, ServerObservation, Signals
from controlloop.api.readings import Missing, Reading, Stale, value_of
from controlloop.tuner.measurement import Measurement, Rejection
from controlloop.tuner.pairs import Sample
from controlloop.units import ms_from_s

CHANGES: Final = frozenset(
    {
        HoldReason.INERT,
        HoldReason.POD_RESTARTED,
        HoldReason.POD_NOT_REPORTING,
        HoldReason.ROLLOUT,
        HoldReason.PODS_REFUSED,
        HoldReason.PODS_NOT_READY,
        HoldReason.LABELS_INVALID,
        HoldReason.DUPLICATE_NAME,
    }
)
"""Holds under which signals are not those of the workload as it is described."""
FULL_SHARE: Final = 0.9
"""Requests in service, as a share of the batch, from which on it counts as full."""
QUEUE_SHARE: Final = 0.1
"""Waiting requests, as a share of the batch, from which on a queue stands."""
BY_CHANCE: Final = 3.0
"""Standard deviations by which the requests inside may differ between two looks by chance."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """A server as it was when it was last looked at."""

    seen_at: float
    shape: tuple[str, int]
    changed_at: float
    queued: bool


class Sampler:
    """Takes one sample of each server in each cycle.

    Args:
        window_s: the time over which rates and means are taken.

    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._memory: Mapping[str, _Memory] = {}

    def sample(self, now: float, observation: Observation) -> tuple[Sample, ...]:
        """The samples of all servers, in their order."""
        samples, memory = [], {}
        for server in observation.servers:
            former = self._memory.get(server.name)
            shape = (server.workload.accelerator, server.workload.max_batch)
            changed = former is not None and former.shape != shape
            memory[server.name] = current = _Memory(
                seen_at=now,
                shape=shape,
                changed_at=now if changed else former.changed_at if former else -math.inf,
                queued=_queue_stands(server),
            )
            pair = (server.workload.model, server.workload.accelerator)
            samples.append(Sample(pair, self._found(now, server, current, former)))
        self._memory = memory
        return tuple(samples)

    def _found(
        self, now: float, server: ServerObservation, current: _Memory, former: _Memory | None
    ) -> Measurement | Rejection:
        if now - current.changed_at < self._window_s or _is_incoherent(server):
            return Rejection.CHANGING
        if server.siblings:
            # The means are those of several accelerators: they tell of no single pair.
            return Rejection.MIXED
        unusable = _unusable(server.signals)
        if unusable is not None:
            return unusable
        if server.workload.max_batch < 1:
            return Rejection.BATCH_UNKNOWN
        one = self._measurement(now, server, former)
        queued_before = former is not None and former.queued
        moved = self._pods_moved(now, server)
        if current.queued and queued_before:
            return _of_full_batches(one) if moved else one
        of_the_past = _value(server.signals.ttft_ms) >= ms_from_s(self._window_s)
        unsettled = current.queued or queued_before or moved or of_the_past
        return Rejection.CHANGING if unsettled or self._ramps(server.signals) else one

    def _pods_moved(self, now: float, server: ServerObservation) -> bool:
        """Whether pods came or went within the window."""
        gone = any(hold.reason is HoldReason.POD_GONE for hold in server.all_holds)
        return gone or any(
            pod.terminating
            or (
                pod.carries_load
                and pod.ready_since is not None
                and pod.ready_since > now - self._window_s
            )
            for pod in server.workload.pods
        )

    def _measurement(
        self, now: float, server: ServerObservation, former: _Memory | None
    ) -> Measurement:
        signals, replicas = server.signals, max(server.signals.reported_pods, 1)
        completed_rps = _value(signals.completion_rate_rps)
        # Windows that overlap share their requests: only the new ones count.
        since = self._window_s if former is None else now - former.seen_at
        queued = _queue_stands(server)
        return Measurement(
            time=now,
            rate_rps=_value(signals.arrival_rate_rps) / replicas,
            input_tokens=_value(signals.input_tokens),
            output_tokens=_value(signals.output_tokens),
            max_batch=server.workload.max_batch,
            itl_ms=_value(signals.itl_ms),
            ttft_ms=_value(signals.ttft_ms),
            requests=completed_rps * min(max(since, 0.0), self._window_s),
            throughput_rps=completed_rps / replicas,
            running=_value(signals.running) / replicas if queued else None,
            queue_seen=queued,
            source=server.name,
        )

    def _ramps(self, signals: Signals) -> bool:
        """Whether more came than left, or less, than chance makes of a load that stands still."""
        difference_rps = _value(signals.arrival_rate_rps) - _value(signals.completion_rate_rps)
        inside = _value(signals.running) + _value(signals.waiting)
        return abs(difference_rps) * self._window_s > BY_CHANCE * math.sqrt(inside + 1)


def _is_incoherent(server: ServerObservation) -> bool:
    """Whether what was measured is not of all that runs now, as it is described."""
    signals = server.signals
    return signals.reported_pods != signals.expected_pods or any(
        hold.reason in CHANGES for hold in server.all_holds
    )


def _of_full_batches(one: Measurement) -> Measurement | Rejection:
    """What can be told of replicas that a queue keeps full, while some come or go.

    Of whom the completions are is not plain then; the time between tokens is that of a full
    batch wherever it was measured.
    """
    if one.running is None or one.running < FULL_SHARE * one.max_batch:
        return Rejection.CHANGING
    return replace(one, ttft_ms=None, throughput_rps=None, running=None)


def _unusable(signals: Signals) -> Rejection | None:
    """The first signal that is not there: no arrivals, no present value, or an old one."""
    if value_of(signals.arrival_rate_rps) == 0 and value_of(signals.completion_rate_rps) == 0:
        return Rejection.IDLE
    needed = (
        signals.arrival_rate_rps,
        signals.completion_rate_rps,
        signals.input_tokens,
        signals.output_tokens,
        signals.itl_ms,
        signals.ttft_ms,
        signals.running,
        signals.waiting,
    )
    if any(isinstance(reading, Missing) for reading in needed):
        return Rejection.MISSING
    if any(isinstance(reading, Stale) for reading in needed):
        return Rejection.STALE
    return None


def _queue_stands(server: ServerObservation) -> bool:
    waiting = value_of(server.signals.waiting) or 0.0
    replicas = max(server.signals.reported_pods, 1)
    return waiting / replicas > max(1.0, QUEUE_SHARE * server.workload.max_batch)


def _value(reading: Reading) -> float:
    value = value_of(reading)
    return math.nan if value is None else value
