"""Fits from the last measurements: the first one, and those that get a wrong belief out.

A belief is found out anew where nearly all of the last measurements were turned away: then it is
the belief that is wrong. It is also compared with a new fit where it seems off although it
learns: where measurements scatter much more than is assumed, or innovations keep to one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.protocols import QueueModel
from controlloop.tuner.belief import Belief, Prior
from controlloop.tuner.expectation import CHANNELS
from controlloop.tuner.first_fit import Fit, fit_windows, linear_gain, misfits
from controlloop.tuner.kalman import Gaussians
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.noise import Noise
from controlloop.tuner.trust import FIRST_FIT, MOST_NOISE

WRONG_RUN: Final = 6
MOST_WRONG: Final = 5
"""A belief that turned away so many of so many measurements is wrong, not the measurements."""
FIT_ON: Final = 8
"""Measurements, the last ones, that a fit is made of."""
MOST_MISFIT: Final = 0.5
"""Median relative misfit of a window from which on its fit is none."""
GAIN: Final = 0.6
"""Share of the misfit of a wrong belief that a new one may leave at most."""
CHECK_GAIN: Final = 0.35
"""The same of a belief that only seems off: of 8 measurements of two latencies and four
parameters, chance alone leaves less in one case of 100,000."""
CHECK_EVERY: Final = 3
"""Measurements after which a belief is compared with others, while it seems off."""
SUSPECT_NOISE: Final = 4.0
"""Variance of the measurements, in units of what is assumed, from which on a belief seems off."""
NEARLY: Final = 1.5
"""What was proven before comes back where its misfit is at most so many times that of a fit."""
PROVEN_DOUBT: Final = 2.0
"""Factor on the covariance of what comes back."""


class Refitter:
    """Makes the fits that are due.

    Args:
        model: the queue model of all pairs.
        noise: how far measurements scatter.
        most_fits: fits in one call; further ones wait for the next.

    """

    def __init__(self, model: QueueModel, noise: Noise, most_fits: int) -> None:
        self._model = model
        self._noise = noise
        self._most_fits = most_fits

    def refit(self, priors: Sequence[Prior], beliefs: list[Belief], usable: Sequence[int]) -> None:
        """Make the fits that are due, in place."""
        due = [row for row in usable if _due(beliefs[row])]
        due += self._promising(priors, beliefs, [row for row in usable if _seems_off(beliefs[row])])
        due = due[: self._most_fits]
        if not due:
            return
        chosen = [beliefs[row] for row in due]
        windows = [belief.recent[-FIT_ON:] for belief in chosen]
        own = [priors[row] for row in due]
        proven = [_proven_mean(prior, belief) for prior, belief in zip(own, chosen, strict=True)]
        fit = fit_windows(self._model, _wide(own, proven), windows)
        before = self._misfit(own, [belief.mean for belief in chosen], windows)
        restored = self._misfit(own, proven, windows)
        for place, row in enumerate(due):
            beliefs[row] = self._refitted(
                beliefs[row], fit, place, before=before[place], restored=restored[place]
            )

    def _promising(
        self, priors: Sequence[Prior], beliefs: Sequence[Belief], rows: Sequence[int]
    ) -> list[int]:
        """Those of `rows` whose last measurements other parameters would explain far better."""
        if not rows:
            return []
        own = [priors[row] for row in rows]
        means = [beliefs[row].mean for row in rows]
        windows = [beliefs[row].recent[-FIT_ON:] for row in rows]
        left = linear_gain(self._model, _wide(own, means), windows)
        proven = [_proven_mean(priors[row], beliefs[row]) for row in rows]
        restored = np.array(self._misfit(own, proven, windows))
        share = np.minimum(left, restored / np.array(self._misfit(own, means, windows)))
        return [row for row, one in zip(rows, share, strict=True) if one < CHECK_GAIN]

    def _misfit(
        self,
        priors: Sequence[Prior],
        means: Sequence[FloatArray],
        windows: Sequence[Sequence[Measurement]],
    ) -> list[float]:
        """The median misfit of each window with the given parameters, not less than 1e-9."""
        found = misfits(self._model, _wide(priors, means), windows)
        return [max(float(np.median(one)), 1e-9) for one in found]

    def _refitted(
        self, belief: Belief, fit: Fit, place: int, *, before: float, restored: float
    ) -> Belief:
        after = float(np.median(fit.misfit[place]))
        comes_back = belief.proven is not None and restored <= NEARLY * after
        best = restored if comes_back else after
        gain = GAIN if _wrong(belief) else CHECK_GAIN
        better = not belief.fitted or best <= gain * before
        if min(before, best) > MOST_MISFIT:
            return belief
        known = replace(
            belief,
            noise=np.full(len(CHANNELS), self._noise_of(best if better else before)),
            seen=np.zeros(len(CHANNELS)),
            bias=np.zeros(len(CHANNELS)),
            judged=(),
        )
        if not better:
            # Measurements scatter more than was assumed, around what is believed.
            return known if _wrong(belief) else belief
        mean, covariance = fit.mean[place], fit.covariance[place]
        if comes_back and belief.proven is not None:
            mean, covariance = belief.proven[0], PROVEN_DOUBT * belief.proven[1]
        return replace(
            known,
            mean=mean,
            covariance=covariance,
            reference=mean,
            refits=belief.refits + belief.fitted,
            fitted=True,
            since_fit=0,
        )

    def _noise_of(self, misfit: float) -> float:
        return float(np.clip(np.square(1.5 * misfit / self._noise.floor), 1.0, MOST_NOISE))


def _due(belief: Belief) -> bool:
    return _wrong(belief) if belief.fitted else len(belief.recent) >= FIRST_FIT


def _wrong(belief: Belief) -> bool:
    last = belief.judged[-WRONG_RUN:]
    return len(last) - sum(last) >= MOST_WRONG


def _seems_off(belief: Belief) -> bool:
    """Whether a belief that learns all the same should be compared with others now."""
    if not belief.fitted or _wrong(belief) or not belief.judged or not belief.judged[-1]:
        return False
    off = belief.noise.max() >= SUSPECT_NOISE or belief.wanders
    return bool(off and belief.since_fit >= FIT_ON and belief.since_fit % CHECK_EVERY == 0)


def _proven_mean(prior: Prior, belief: Belief) -> FloatArray:
    return prior.mean if belief.proven is None else belief.proven[0]


def _wide(priors: Sequence[Prior], means: Sequence[FloatArray]) -> Gaussians:
    """`means`, as uncertain as the configuration is."""
    return Gaussians(
        np.stack(means),
        np.stack([prior.covariance for prior in priors]),
        np.stack([prior.free for prior in priors]),
        np.stack(means),
    )
