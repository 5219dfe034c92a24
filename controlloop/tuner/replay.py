"""Recorded samples through the code that learns in the loop: each predicted, then learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.estimates import Comparison, PairEstimate
from controlloop.api.system import PerfParameters
from controlloop.plugins import Registry
from controlloop.protocols import QueueModel
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.pairs import PairName, Pairs
from controlloop.tuner.recordings import Recorded
from controlloop.tuner.tuning import Tuning

COLLECTED: Final = "collected"
"""The outcome of an observation that was kept for the first fit."""
ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True)
class Step:
    """One observation, and what is known of its pair after it.

    Attributes:
        time: seconds since the epoch.
        pair: model and accelerator.
        source: the replica or server.
        rate_rps: its arrivals; NaN where nothing was measured.
        outcome: accepted, collected, or why it was turned away.
        compared: what was predicted before it was learned, beside it; None where it was not.
        after: the estimate after it; None of a pair that is not learned.

    """

    time: float
    pair: PairName
    source: str
    rate_rps: float
    outcome: str
    compared: Comparison | None
    after: PairEstimate | None


@dataclass(frozen=True, slots=True)
class Score:
    """Relative errors of one-step-ahead predictions: median and 90th percentile, NaN of none."""

    count: int
    ttft: tuple[float, float]
    itl: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Replay:
    """A whole replay: its steps in order, and what went wrong."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def pairs(self) -> tuple[PairName, ...]:
        """The pairs observed, in order of their first observation."""
        return tuple(dict.fromkeys(step.pair for step in self.steps))

    def of(self, pair: PairName) -> tuple[Step, ...]:
        """The steps of one pair."""
        return tuple(step for step in self.steps if step.pair == pair)

    def score(self, pair: PairName) -> Score:
        """The errors over the second half of the observations of `pair`, outliers included."""
        steps = self.of(pair)
        compared = [step.compared for step in steps[len(steps) // 2 :] if step.compared]
        return Score(
            count=len(compared),
            ttft=_quantiles([(one.predicted_ttft_ms, one.observed_ttft_ms) for one in compared]),
            itl=_quantiles([(one.predicted_itl_ms, one.observed_itl_ms) for one in compared]),
        )


def replay(
    recorded: Sequence[Recorded],
    perf: Sequence[PerfParameters],
    models: Registry[QueueModel],
    tuning: Tuning,
    advanced: Callable[[int], None] = lambda _: None,
) -> Replay:
    """Run a recording.

    Args:
        recorded: the samples in the order in which they come.
        perf: the pairs with the parameters to start from.
        models: the queue models by name.
        tuning: how to learn.
        advanced: told how many samples are done.

    """
    pairs = Pairs(models, tuning)
    notes = pairs.take_up(perf, {})
    known = {name: one[1] for name, one in pairs.estimates(apply=True).items()}
    steps = []
    for number, one in enumerate(recorded):
        notes += pairs.learn([one.sample])
        after = {name: each[1] for name, each in pairs.estimates(apply=True).items()}
        steps.append(_step(one, known, after))
        known = after
        advanced(number + 1)
    return Replay(tuple(steps), tuple(dict.fromkeys(notes)))


def _step(
    one: Recorded, before: Mapping[PairName, PairEstimate], after: Mapping[PairName, PairEstimate]
) -> Step:
    pair, found = one.sample.pair, one.sample.found
    now, then = after.get(pair), before.get(pair)
    compared = None
    if now is not None and then is not None and now.last != then.last:
        compared = now.last
    return Step(
        time=one.time,
        pair=pair,
        source=one.source,
        rate_rps=found.rate_rps if isinstance(found, Measurement) else math.nan,
        outcome=_outcome(then, now),
        compared=compared,
        after=now,
    )


def _outcome(before: PairEstimate | None, after: PairEstimate | None) -> str:
    if before is None or after is None:
        return "unknown-pair"
    if after.accepted > before.accepted:
        return ACCEPTED
    for reason, count in after.rejected.items():
        if count > before.rejected.get(reason, 0):
            return reason
    return COLLECTED


def _quantiles(values: Sequence[tuple[float | None, float | None]]) -> tuple[float, float]:
    errors = [abs(predicted / seen - 1) for predicted, seen in values if predicted and seen]
    if not errors:
        return math.nan, math.nan
    half, most = np.quantile(errors, [0.5, 0.9]).tolist()
    return half, most
