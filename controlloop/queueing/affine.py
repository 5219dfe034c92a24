"""Service times that are affine in the requests in service."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.queueing.segments import Segments
from controlloop.queueing.service import Departures, Reading, Readings


@dataclass(frozen=True, slots=True, eq=False)
class AffineTimes:
    """Times of n pairs in ms, each array (n,): `base` + `slope` * requests in service.

    Where service does not depend on the requests in service at all, neither should the reported
    prefill and ITL: their slopes are 0 there.

    Attributes:
        prefill_base: prefill of no request.
        prefill_slope: what each request in service adds to it.
        itl_base: ITL of no request.
        itl_slope: what each request in service adds to it.
        decode_steps: tokens after the first.
        slots: states of the chain in which service changes, a whole number.
        per_slot: requests that one slot serves at once.

    """

    prefill_base: FloatArray
    prefill_slope: FloatArray
    itl_base: FloatArray
    itl_slope: FloatArray
    decode_steps: FloatArray
    slots: FloatArray
    per_slot: FloatArray

    def take(self, rows: IntArray | BoolArray) -> AffineTimes:
        """The pairs at `rows`."""
        return AffineTimes(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def unused(self) -> FloatArray:
        """None: every place of the batch is a slot."""
        return np.zeros(len(self.slots))

    @property
    def base_ms(self) -> FloatArray:
        """The part of the service time that does not grow with the requests in service."""
        return self.prefill_base + self.decode_steps * self.itl_base

    @property
    def slope_ms(self) -> FloatArray:
        """What each request in service adds to the service time."""
        return self.prefill_slope + self.decode_steps * self.itl_slope

    def departure_ms(self, in_service: FloatArray) -> FloatArray:
        """Service time by the requests that share it."""
        return self.service_ms(in_service) / (in_service * self.per_slot)

    def service_ms(self, in_service: FloatArray) -> FloatArray:
        """Prefill, then the decode steps."""
        return self.base_ms + self.slope_ms * in_service

    def prefill_ms(self, in_service: FloatArray) -> FloatArray:
        """Time to first token."""
        return self.prefill_base + self.prefill_slope * in_service

    def itl_ms(self, in_service: FloatArray) -> FloatArray:
        """Time between two tokens."""
        return self.itl_base + self.itl_slope * in_service

    def prefill_variance(self, in_service: FloatArray) -> FloatArray:
        """None: all that these times know of is the batch."""
        return np.zeros(len(in_service))

    def itl_variance(self, in_service: FloatArray) -> FloatArray:
        """None: all that these times know of is the batch."""
        return np.zeros(len(in_service))

    def evenly_spaced(self) -> AffineTimes:
        """The same: these times know nothing of arrivals."""
        return self

    def first_token_ms(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:  # noqa: ARG002 - the protocol's arguments
        """Prefill in a batch of `beside`, or alone."""
        return self.prefill_ms(np.maximum(beside, 1.0))

    def first_token_variance(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:  # noqa: ARG002 - the protocol's arguments
        """None; see `prefill_variance`."""
        return np.zeros(len(beside))

    def itl_during_ms(self, batch: FloatArray) -> FloatArray:
        """ITL in that batch, or alone."""
        return self.itl_ms(np.maximum(batch, 1.0))

    def stay_variance(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:  # noqa: ARG002 - the protocol's arguments
        """None; see `itl_variance`."""
        return np.zeros(len(beside))

    def admitted_at_once(self, clients: FloatArray) -> FloatArray:
        """As many as there are slots."""
        return np.minimum(clients, self.slots)

    def prompts_ms(self, count: FloatArray) -> FloatArray:
        """Prefill in a batch of `count`."""
        return self.prefill_ms(count)

    @property
    def entries(self) -> FloatArray:
        """None: all pairs share what tables there are."""
        return np.zeros(len(self.slots))

    def readings(self) -> Readings:
        """Slopes alone, whatever the states: no pair needs a table of its own."""
        states = Segments.shared(self.slots.astype(np.int64))
        alone = np.ones(len(self.slots))
        inverse = 1 / (states.position + 1)
        return Readings(
            states=states,
            departures=Departures(
                self.slope_ms / self.per_slot, self.base_ms / self.per_slot, inverse
            ),
            service=Reading(self.service_ms(alone), self.slope_ms, None),
            prefill=Reading(self.prefill_ms(alone), self.prefill_slope, None),
            held=Reading.nothing(len(self.slots)),
            itl=Reading(self.itl_ms(alone), self.itl_slope, None),
        )
