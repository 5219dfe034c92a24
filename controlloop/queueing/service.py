"""What a queue model says of a replica: times by how many requests are in service.

The chain of every model is the same; models differ in the `ServiceTimes` they make of a
replica's parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray, Replicas
from controlloop.queueing.segments import Segments

MAX_BATCH: Final = 1 << 22
MAX_QUEUE: Final = 1_000_000_000
LEAST_SERVICE_MS: Final = 1e-100
MOST_SERVICE_MS: Final = 1e100


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A mean of n pairs by the state that a request meets: `alone` + `scale` * table.

    Attributes:
        alone: (n,) its value for a request that meets an empty replica.
        scale: (n,) what one unit of the table adds.
        table: (total,) rising from 0, an entry for each state met, 0..N-1; None is the state
            itself: the quantity is then affine in the requests in service.

    """

    alone: FloatArray
    scale: FloatArray
    table: FloatArray | None

    @classmethod
    def of(cls, states: Segments, values: FloatArray) -> Reading:
        """The reading of `values` (total,), given state by state."""
        alone: FloatArray = values[states.starts]
        return cls(alone, np.ones(len(alone)), values - states.spread(alone))

    @classmethod
    def nothing(cls, count: int) -> Reading:
        """0 in every state."""
        return cls(np.zeros(count), np.zeros(count), None)


@dataclass(frozen=True, slots=True, eq=False)
class Departures:
    """Mean time between departures of n pairs in ms: `fixed` + `scale` * basis.

    Attributes:
        fixed: (n,) ms.
        scale: (n,) ms for each unit of the basis.
        basis: (total,) by the state that a request meets, once it is in service.

    """

    fixed: FloatArray
    scale: FloatArray
    basis: FloatArray

    def at(self, entries: IntArray) -> FloatArray:
        """(n,) that of each pair at its entry of the basis."""
        return self.fixed + self.scale * self.basis[entries]

    def take(self, rows: IntArray) -> Departures:
        """Those of the pairs at `rows`."""
        return Departures(self.fixed[rows], self.scale[rows], self.basis)


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What requests see: means by the state that they meet.

    Attributes:
        states: where the states of each pair, 0 up to the slots, stand in tables.
        departures: time between departures.
        service: time in service, which is how long a slot is held.
        prefill: time to first token of a request that finds a slot free.
        held: wait for a slot of which a part is free; see `ServiceTimes.slots`.
        itl: time between two tokens.

    """

    states: Segments
    departures: Departures
    service: Reading
    prefill: Reading
    held: Reading
    itl: Reading


class ServiceTimes(Protocol):
    """Times of n pairs in ms; `in_service` is (n,), real, in 1..slots, the request included."""

    @property
    def slots(self) -> FloatArray:
        """(n,) requests in service at most, >= 1. A part of a slot takes a request in part."""
        ...

    @property
    def unused(self) -> FloatArray:
        """(n,) whole places of the batch for which there is no slot: in them requests wait."""
        ...

    @property
    def decode_steps(self) -> FloatArray:
        """(n,) tokens of a request after its first."""
        ...

    def take(self, rows: IntArray | BoolArray) -> Self:
        """The pairs at `rows`; a pair may be taken more than once."""
        ...

    def departure_ms(self, in_service: FloatArray) -> FloatArray:
        """Mean time between two departures: the chain's 1/mu."""
        ...

    def service_ms(self, in_service: FloatArray) -> FloatArray:
        """Mean time in service."""
        ...

    def prefill_ms(self, in_service: FloatArray) -> FloatArray:
        """Mean time to first token without a wait for a slot."""
        ...

    def itl_ms(self, in_service: FloatArray) -> FloatArray:
        """Mean time between two tokens."""
        ...

    def prefill_variance(self, in_service: FloatArray) -> FloatArray:
        """Variance of the time to first token while `in_service` stays as it is, in ms^2."""
        ...

    def itl_variance(self, in_service: FloatArray) -> FloatArray:
        """Variance of a request's mean ITL while `in_service` stays as it is, in ms^2."""
        ...

    @property
    def entries(self) -> FloatArray:
        """(n,) numbers in each table that `readings` makes for a pair alone."""
        ...

    def readings(self) -> Readings:
        """What requests see, by the requests that they meet: 0 up to the slots, rounded up."""
        ...


def tabulated(times: ServiceTimes) -> Readings:
    """The readings of times that are any function of the requests in service."""
    states = Segments.of(np.ceil(times.slots).astype(np.int64))
    count = len(times.slots)
    each = times.take(states.rows)
    present = states.position + 1
    in_service = np.minimum(present, each.slots)
    departure_ms = each.departure_ms(in_service)
    held = (present - in_service) * departure_ms
    return Readings(
        states=states,
        departures=Departures(np.zeros(count), np.ones(count), departure_ms),
        service=Reading.of(states, each.service_ms(in_service)),
        prefill=Reading.of(states, each.prefill_ms(in_service)),
        held=Reading.of(states, held),
        itl=Reading.of(states, each.itl_ms(in_service)),
    )


def restoring(times: ServiceTimes, in_service: FloatArray) -> FloatArray:
    """By how many per cent more requests leave when one per cent more are in service: (n,).

    1 where service does not slow down at all; kept away from 0, where nothing would bring a
    larger batch back.
    """
    step = 1e-3
    above, below = (times.departure_ms(in_service * each) for each in (1 + step, 1 - step))
    found: FloatArray = np.clip(np.log(below / above) / (2 * step), 0.05, 1.0)
    return found


def numbers_are_valid(replicas: Replicas) -> BoolArray:
    """Whether the numbers of each pair are such as every model can take: (n,).

    Tokens and parameters must be finite and not negative, output tokens above 0, the batch in
    1..MAX_BATCH and the queue in 0..MAX_QUEUE.
    """
    numbers = np.column_stack([replicas.input_tokens, replicas.output_tokens, replicas.parameters])
    batch, queue = replicas.max_batch, replicas.max_queue
    valid: BoolArray = (
        np.all(np.isfinite(numbers) & (numbers >= 0), axis=1)
        & (replicas.output_tokens > 0)
        & (batch >= 1)
        & (batch <= MAX_BATCH)
        & (queue >= 0)
        & (queue <= MAX_QUEUE)
    )
    return valid


def times_are_valid(times: ServiceTimes) -> BoolArray:
    """Whether a request takes a time that can be reckoned with, alone and in a full batch."""
    alone = np.ones(len(times.slots))
    longest = np.maximum(times.service_ms(times.slots), times.prefill_ms(times.slots))
    shortest = np.minimum(times.departure_ms(alone), times.departure_ms(times.slots))
    valid: BoolArray = (
        (times.slots >= 1) & (shortest >= LEAST_SERVICE_MS) & (longest <= MOST_SERVICE_MS)
    )
    return valid
