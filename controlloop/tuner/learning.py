"""Learns from one measurement of each of many pairs: judge, update, and find out again.

A measurement passes three gates: its own flaws (`measurement.flaw`), the order of time and the
repetition of one before, and the innovation gate: the normalised innovation squared against
its chi-squared quantile. What a gate turns away changes nothing but a count. When nearly all
measurements are turned away, it is the belief that is wrong: the parameters are fitted anew from
the last measurements, learned or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from scipy.special import chdtri

from controlloop.api.estimates import Trust
from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.protocols import QueueModel
from controlloop.tuner.belief import BIAS_WEIGHT, HISTORY, WINDOW, Belief, Compared, Prior
from controlloop.tuner.expectation import TTFT, Expectation, Table, expect
from controlloop.tuner.kalman import Gaussians, Innovation, innovation, update
from controlloop.tuner.measurement import Measurement, Rejection, flaw, repeats
from controlloop.tuner.refitting import Refitter
from controlloop.tuner.trust import MOST_NOISE, PROVEN, verdict
from controlloop.tuner.tuning import Tuning
from controlloop.units import hours_from_s

_DRIFT_AT_ONCE: Final = 0.01
_DRIFT_UP: Final = 4.0
_DRIFT_DOWN: Final = 1.3
_LONGEST_GAP_H: Final = 1.0
_LEAST_NOISE: Final = 0.01
_NOISE_MEMORY: Final = 60.0
_NOISE_START: Final = 4.0


class Learner:
    """Learns the parameters of pairs that share a queue model.

    Args:
        model: the queue model.
        tuning: how to learn.
        most_fits: fits from windows in one call; further ones wait for the next.

    """

    def __init__(self, model: QueueModel, tuning: Tuning, most_fits: int = 24) -> None:
        self._model = model
        self._tuning = tuning
        self._refitter = Refitter(model, tuning.noise, most_fits)

    def learn(
        self,
        priors: Sequence[Prior],
        beliefs: Sequence[Belief],
        measurements: Sequence[Measurement],
    ) -> list[Belief]:
        """What is known of each pair after one measurement of each."""
        after = list(beliefs)
        usable = []
        for row, (belief, one) in enumerate(zip(beliefs, measurements, strict=True)):
            reason = self._turned_away(belief, one)
            if reason is None:
                usable.append(row)
            else:
                after[row] = rejected(belief, reason)
            if math.isfinite(one.time):
                after[row] = replace(after[row], heard_at=one.time)
        known = [row for row in usable if after[row].fitted]
        for row in usable:
            if not after[row].fitted:
                after[row] = replace(after[row], recent=_window(after[row], measurements[row]))
        if known:
            learned = self._filtered(
                [priors[row] for row in known],
                [after[row] for row in known],
                [measurements[row] for row in known],
            )
            for row, belief in zip(known, learned, strict=True):
                after[row] = belief
        self._refitter.refit(priors, after, usable)
        return [_settled(belief) for belief in after]

    def _turned_away(self, belief: Belief, one: Measurement) -> Rejection | None:
        own = flaw(one, self._tuning.rules)
        if own is not None:
            return own
        if one.time < belief.heard_at:
            return Rejection.TIME_BACKWARDS
        if one in belief.recent:
            return Rejection.STALE
        former = next((each for each in reversed(belief.recent) if each.source == one.source), None)
        if former is not None and repeats(one, former):
            return Rejection.FROZEN
        return None

    def _filtered(
        self,
        priors: Sequence[Prior],
        beliefs: Sequence[Belief],
        measurements: Sequence[Measurement],
    ) -> list[Belief]:
        table = Table.of(measurements)
        before = self._predicted(priors, beliefs, measurements)
        expected = expect(self._model, before.log_parameters, table, before.slopes_at(before.mean))
        noise = self._tuning.noise.covariance(
            table, expected.by_rate, np.stack([belief.noise for belief in beliefs])
        )
        counts = _counting(table, expected)
        found = innovation(before, table, expected, noise, counts)
        squared, degrees = found.normalised_squared, counts.sum(axis=1)
        limit = chdtri(np.maximum(degrees, 1), 1.0 - self._tuning.gate)
        learn = np.flatnonzero((squared <= limit) & (degrees > 0))
        posterior = update(self._model, before.take(learn), table.take(learn), found.take(learn))
        place = {row: at for at, row in enumerate(learn.tolist())}
        scales = self._noise_scales(table, found, beliefs)
        after = []
        for row, belief in enumerate(beliefs):
            compared = _compared(measurements[row], table, expected, found, squared, row)
            kept = replace(
                belief,
                recent=_window(belief, measurements[row]),
                compared=compared or belief.compared,
            )
            if row in place:
                kept = self._accepted(kept, found, scales, row)
                kept = replace(
                    kept,
                    mean=posterior.mean[place[row]],
                    covariance=posterior.covariance[place[row]],
                    reference=posterior.reference[place[row]],
                )
            elif degrees[row] == 0:
                kept = rejected(kept, Rejection.UNPREDICTABLE)
            else:
                kept = _judged(rejected(kept, Rejection.OUTLIER), learned=False)
            after.append(kept)
        return after

    def _predicted(
        self,
        priors: Sequence[Prior],
        beliefs: Sequence[Belief],
        measurements: Sequence[Measurement],
    ) -> Gaussians:
        """The beliefs at the time of the measurements: the covariance moves to the prior's.

        So uncertainty that was removed comes back slowly, and what was never removed does not
        grow.
        """
        least, most = self._tuning.drift
        rows = []
        for prior, belief, one in zip(priors, beliefs, measurements, strict=True):
            last = belief.recent[-1].time if belief.recent else one.time
            hours = min(max(hours_from_s(one.time - last), 0.0), _LONGEST_GAP_H)
            share = -np.expm1(-min(max(belief.drift, least), most) * hours)
            rows.append(belief.covariance + share * (prior.covariance - belief.covariance))
        return Gaussians(
            np.stack([belief.mean for belief in beliefs]),
            np.stack(rows),
            np.stack([prior.free for prior in priors]),
            np.stack([belief.reference for belief in beliefs]),
        )

    def _accepted(
        self, belief: Belief, found: Innovation, scales: tuple[FloatArray, FloatArray], row: int
    ) -> Belief:
        signed = found.residual[row] / np.sqrt(np.einsum("cc->c", found.covariance[row]))
        bias = np.where(
            found.counts[row], belief.bias + BIAS_WEIGHT * (signed - belief.bias), belief.bias
        )
        moved = replace(belief, bias=bias)
        least, most = self._tuning.drift
        drift = belief.drift / _DRIFT_DOWN
        if moved.wanders:
            drift = max(belief.drift * _DRIFT_UP, _DRIFT_AT_ONCE)
        return _judged(
            replace(
                moved,
                drift=float(np.clip(drift, least, most)),
                noise=scales[0][row],
                seen=scales[1][row],
                accepted=belief.accepted + 1,
                since_fit=belief.since_fit + 1,
            ),
            learned=True,
        )

    def _noise_scales(
        self, table: Table, found: Innovation, beliefs: Sequence[Belief]
    ) -> tuple[FloatArray, FloatArray]:
        """Each channel's noise and the measurements behind it, if the innovation is learned."""
        noise = np.stack([belief.noise for belief in beliefs])
        seen = np.stack([belief.seen for belief in beliefs])
        assumed = self._tuning.noise.own(table)
        own = self._tuning.noise.margin * self._tuning.noise.scaled(table, noise)
        others = np.einsum("mcc->mc", found.covariance) - own
        ratio = np.clip((np.square(found.residual) - others) / assumed, 0.0, 9.0 * noise)
        weight = 1 / (np.minimum(seen, _NOISE_MEMORY) + 1 + _NOISE_START)
        scale = np.clip(noise + weight * (ratio - noise), _LEAST_NOISE, MOST_NOISE)
        return np.where(found.counts, scale, noise), seen + found.counts


def rejected(belief: Belief, reason: Rejection) -> Belief:
    """The belief, with one more measurement turned away."""
    count = belief.rejected.get(reason, 0) + 1
    return replace(belief, rejected={**belief.rejected, str(reason): count})


def _settled(belief: Belief) -> Belief:
    """With its mean as the one to plan with and to come back to, where it is trusted."""
    if verdict(belief)[0] is not Trust.TRUSTED:
        return belief
    is_proven = belief.since_fit >= PROVEN
    proven = (belief.mean, belief.covariance) if is_proven else belief.proven
    return replace(belief, trusted=belief.mean, proven=proven)


def _judged(belief: Belief, *, learned: bool) -> Belief:
    return replace(belief, judged=(*belief.judged, learned)[-HISTORY:])


def _window(belief: Belief, one: Measurement) -> tuple[Measurement, ...]:
    return (*belief.recent, one)[-WINDOW:]


def _counting(table: Table, expected: Expectation) -> BoolArray:
    counts = table.known & np.isfinite(expected.log_values)
    counts[:, TTFT] &= ~expected.saturated
    return counts


def _compared(
    one: Measurement,
    table: Table,
    expected: Expectation,
    found: Innovation,
    squared: FloatArray,
    row: int,
) -> Compared | None:
    known = found.counts[row]
    if not known.any():
        return None
    by_parameters = np.einsum("cc->c", found.covariance[row] - found.noise[row])
    return Compared(
        time=one.time,
        measured=_listed(np.exp(table.log_values[row]), known),
        expected=_listed(np.exp(expected.log_values[row]), known),
        uncertainty=_listed(np.sqrt(np.maximum(by_parameters, 0.0)), known),
        nis=float(squared[row] / known.sum()),
    )


def _listed(values: FloatArray, known: BoolArray) -> tuple[float, ...]:
    return tuple(np.where(known, values, np.nan).tolist())
