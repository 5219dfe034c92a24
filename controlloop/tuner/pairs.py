"""The pairs that are configured, with what is known of each; learns from their measurements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.estimates import Comparison, Origin, PairEstimate, Trust
from controlloop.api.replicas import FloatArray
from controlloop.api.system import PerfParameters
from controlloop.errors import UnknownPluginError
from controlloop.plugins import Registry
from controlloop.protocols import QueueModel
from controlloop.tuner.belief import Belief, Compared, Prior, prior_of
from controlloop.tuner.checkpoint import PairKey, key_of, queue_model_of
from controlloop.tuner.expectation import ITL, TTFT
from controlloop.tuner.learning import Learner, rejected
from controlloop.tuner.measurement import Measurement, Rejection
from controlloop.tuner.trust import verdict
from controlloop.tuner.tuning import Tuning

MOST_MEASUREMENTS: Final = 2000
"""Measurements learned in one cycle; each pair has its share of them, and at least one."""

PairName = tuple[str, str]
"""Model and accelerator."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one server or replica gives: a measurement of its pair, or why there is none."""

    pair: PairName
    found: Measurement | Rejection


@dataclass(slots=True)
class _Pair:
    """One configured pair, with what is known of it."""

    perf: PerfParameters
    prior: Prior
    belief: Belief


class Pairs:
    """What is known of all pairs.

    Args:
        models: the queue models by name.
        tuning: how to learn.

    """

    def __init__(self, models: Registry[QueueModel], tuning: Tuning) -> None:
        self._models = models
        self._tuning = tuning
        self._learners: dict[str, Learner] = {}
        self._pairs: dict[PairName, _Pair] = {}
        self._unknown: Counter[PairName] = Counter()

    @property
    def unknown(self) -> Mapping[PairName, int]:
        """Samples of pairs that are not configured, counted."""
        return dict(self._unknown)

    @property
    def beliefs(self) -> Mapping[PairKey, Belief]:
        """What is known of each pair that is learned."""
        return {key_of(pair.perf): pair.belief for pair in self._pairs.values()}

    def take_up(self, perf: Sequence[PerfParameters], kept: dict[PairKey, Belief]) -> list[str]:
        """Know every pair of `perf` and no other; says why one is not learned.

        A pair that is new, or configured anew, starts with what is in `kept` of it, which is
        taken out there, or else with its configuration.
        """
        notes, pairs = [], {}
        for one in perf:
            name = (one.model, one.accelerator)
            known = self._pairs.get(name)
            if known is not None and known.perf == one:
                pairs[name] = known
            elif (why := self._cannot_learn(one)) is not None:
                notes.append(f"tuner: {one.model} on {one.accelerator} is not learned: {why}")
            else:
                prior = prior_of(one, self._tuning.doubt)
                key = key_of(one)
                pairs[name] = _Pair(one, prior, kept.pop(key) if key in kept else Belief.of(prior))
        self._pairs = pairs
        return notes

    def learn(self, samples: Sequence[Sample]) -> list[str]:
        """Learn from the samples of one time; says what failed."""
        measured: dict[PairName, list[Measurement]] = {}
        for sample in samples:
            pair = self._pairs.get(sample.pair)
            if pair is None:
                self._unknown[sample.pair] += 1
            elif isinstance(sample.found, Rejection):
                pair.belief = rejected(pair.belief, sample.found)
            else:
                measured.setdefault(sample.pair, []).append(sample.found)
        most = max(MOST_MEASUREMENTS // max(len(measured), 1), 1)
        for found in measured.values():
            found.sort(key=lambda one: (-(one.requests or 0.0), one.source))
            del found[most:]
        rounds = max((len(found) for found in measured.values()), default=0)
        return [note for number in range(rounds) for note in self._round(measured, number)]

    def estimates(self, *, apply: bool) -> Mapping[PairName, tuple[PerfParameters, PairEstimate]]:
        """The parameters to plan with and what there is to say of them, by pair.

        Args:
            apply: whether what was learned and is trusted is planned with.

        """
        found = {}
        for name, pair in self._pairs.items():
            trust, reason = verdict(pair.belief)
            origin, chosen = Origin.CONFIGURED, pair.perf
            if apply and pair.belief.trusted is not None:
                origin = Origin.LEARNED if trust is Trust.TRUSTED else Origin.LAST_TRUSTED
                chosen = replace(
                    chosen,
                    parameters=_values(pair.belief.trusted, pair.prior),
                    # Of what is known now: in doubt it is wider than when it was trusted.
                    log_covariance=_rows(pair.belief.covariance),
                )
            found[name] = (chosen, _described(pair, trust, reason, origin))
        return found

    def _cannot_learn(self, perf: PerfParameters) -> str | None:
        if not all(math.isfinite(value) and value >= 0 for value in perf.parameters):
            return "its parameters are not all finite and at least 0"
        try:
            model = self._models.create(queue_model_of(perf))
        except UnknownPluginError as error:
            return str(error)
        if perf.parameter_names != model.parameter_names:
            return f"the parameters of {model.name} are {', '.join(model.parameter_names)}"
        if queue_model_of(perf) not in self._learners:
            self._learners[queue_model_of(perf)] = Learner(model, self._tuning)
        return None

    def _round(self, measured: Mapping[PairName, list[Measurement]], number: int) -> list[str]:
        """Learn the measurement of this number of each pair that has so many."""
        of_model: dict[str, list[tuple[_Pair, Measurement]]] = {}
        for name, found in measured.items():
            if number < len(found):
                pair = self._pairs[name]
                of_model.setdefault(queue_model_of(pair.perf), []).append((pair, found[number]))
        notes = []
        for model, work in of_model.items():
            try:
                learned = self._learners[model].learn(
                    [pair.prior for pair, _ in work],
                    [pair.belief for pair, _ in work],
                    [one for _, one in work],
                )
            except (ValueError, ArithmeticError) as error:
                notes.append(f"tuner: learning with {model} failed ({error}); nothing was learned")
                continue
            for (pair, _), belief in zip(work, learned, strict=True):
                pair.belief = belief
        return notes


def _values(mean: FloatArray, prior: Prior) -> tuple[float, ...]:
    return tuple(np.where(prior.free, np.exp(mean), 0.0).tolist())


def _rows(covariance: FloatArray) -> tuple[tuple[float, ...], ...]:
    even = (covariance + covariance.T) / 2
    return tuple(tuple(row) for row in even.tolist())


def _described(pair: _Pair, trust: Trust, reason: str, origin: Origin) -> PairEstimate:
    perf, belief = pair.perf, pair.belief
    return PairEstimate(
        model=perf.model,
        accelerator=perf.accelerator,
        queue_model=queue_model_of(perf),
        parameter_names=perf.parameter_names,
        parameters=_values(belief.mean, pair.prior),
        standard_errors=tuple(np.sqrt(np.diag(belief.covariance)).tolist()),
        trust=trust,
        reason=reason,
        origin=origin,
        accepted=belief.accepted,
        rejected=dict(belief.rejected),
        last=None if belief.compared is None else _comparison(belief.compared),
    )


def _comparison(compared: Compared) -> Comparison:
    return Comparison(
        time=compared.time,
        predicted_ttft_ms=_known(compared.expected[TTFT]),
        observed_ttft_ms=_known(compared.measured[TTFT]),
        predicted_itl_ms=_known(compared.expected[ITL]),
        observed_itl_ms=_known(compared.measured[ITL]),
        nis=compared.nis,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
