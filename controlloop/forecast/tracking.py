"""Scores predictors as they run, gives them quantiles from their own errors, and weighs them.

Each forecast is kept until its slot comes, then compared. The errors so found are the spread of
the next forecasts (split conformal prediction: Vovk et al. 2005; here over the last
`ERRORS_KEPT`), and their pinball loss (Koenker and Bassett 1978) is the score. All series are
rows of arrays; a row has a horizon of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.forecast.history import taken

MOST_STEPS: Final = 60
ERRORS_KEPT: Final = 120
LEAST_ERRORS: Final = 5
LEAST_SCORED: Final = 8

_KEEN: Final = 4.0
"""Weight is the inverse of this power of the loss."""

_RETURN_BELOW: Final = 0.97
"""A predictor that was set aside comes back when its loss is so much of the last value's."""

_LEAST_RATIO: Final = 0.05
_NOTHING: Final = 1e-6
"""Losses below are all as good as none, requests/s."""

_WORSE: Final = 1.001


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What the tracker says of m series at their horizons; NaN where nothing can be said.

    Attributes:
        means: (m,) of the predictor chosen.
        quantiles: (m, L) of the predictor chosen, rising.
        chosen: (m,) its place in the tracker's names; -1: none.
        losses: (m, P) recent pinball loss, NaN before `LEAST_SCORED` forecasts.
        base_losses: (m, P) the last value's, over the same forecasts.
        aside: (m, P) does worse than the last value.
        every: (m, P) the mean that each predictor gives.

    """

    means: FloatArray
    quantiles: FloatArray
    chosen: IntArray
    losses: FloatArray
    base_losses: FloatArray
    aside: BoolArray
    every: FloatArray


class Tracker:
    """The scores and the spreads of some predictors over many series.

    Args:
        predictors: their names; the first is the last value, which the others have to beat.
        levels: the quantiles that are given and scored, rising, between 0 and 1.
        window: over how many forecasts they are scored; older ones fade.
        ensemble: the name of their mix.

    """

    def __init__(
        self, predictors: Sequence[str], levels: Sequence[float], window: float, ensemble: str
    ) -> None:
        self.names = (*predictors, ensemble)
        self.levels = np.array(levels)
        self._memory = 1.0 - 1.0 / max(window, 2.0)
        count, levels_count = len(self.names), len(levels)
        self._slot = 0
        self._due_means = np.full((0, MOST_STEPS + 1, count), np.nan)
        self._due_quantiles = np.full((0, MOST_STEPS + 1, count, levels_count), np.nan)
        self._errors = np.full((0, count, ERRORS_KEPT), np.nan)
        self._loss = np.zeros((0, count))
        self._base_loss = np.zeros((0, count))
        self._weight = np.zeros((0, count))
        self._scored = np.zeros((0, count))
        self._aside: BoolArray = np.zeros((0, count), dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._loss)

    def keep(self, rows: IntArray) -> None:
        """Become the series `rows` of before; -1 is a new one."""
        self._due_means = taken(self._due_means, rows, np.nan)
        self._due_quantiles = taken(self._due_quantiles, rows, np.nan)
        self._errors = taken(self._errors, rows, np.nan)
        self._loss = taken(self._loss, rows, 0.0)
        self._base_loss = taken(self._base_loss, rows, 0.0)
        self._weight = taken(self._weight, rows, 0.0)
        self._scored = taken(self._scored, rows, 0.0)
        self._aside = taken(self._aside.astype(np.float64), rows, 0.0) > 0

    @property
    def state(self) -> dict[str, FloatArray]:
        """What is to be kept over a restart: the errors and the scores, not what is due."""
        sums = np.stack([self._loss, self._base_loss, self._weight, self._scored, self._aside])
        return {"errors": self._errors.astype(np.float32), "sums": sums}

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        """Take up what was kept.

        Raises:
            ValueError: its parts do not fit together.

        """
        series, count = len(state["errors"]), len(self.names)
        shapes = (state["errors"].shape, state["sums"].shape)
        if shapes != ((series, count, ERRORS_KEPT), (5, series, count)):
            raise ValueError(f"arrays of shapes {shapes} are no scores of {count} predictors")
        self.keep(np.full(series, -1))
        self._errors = state["errors"].astype(np.float64)
        self._loss, self._base_loss, self._weight, self._scored, aside = state["sums"]
        self._aside = aside > 0

    def score(self, slots: int, measured: FloatArray) -> None:
        """Time went on by `slots`; compare what was said of the newest with what was measured.

        Args:
            slots: at least 1; what was said of the slots between is compared with nothing.
            measured: (m,) NaN where it is not known: nothing is compared there.

        """
        for passed in range(1, min(slots, MOST_STEPS + 1)):
            self._forget((self._slot + passed) % (MOST_STEPS + 1))
        self._slot += slots
        if slots > MOST_STEPS:
            self._due_means[:] = np.nan
            self._due_quantiles[:] = np.nan
            return
        due = self._slot % (MOST_STEPS + 1)
        means, quantiles = self._due_means[:, due], self._due_quantiles[:, due]
        actual = measured[:, None]
        found = ~np.isnan(means) & ~np.isnan(actual)
        newest = np.where(found, actual - means, np.nan)
        shifted = np.concatenate([self._errors[:, :, 1:], newest[:, :, None]], axis=2)
        self._errors = np.where(found[:, :, None], shifted, self._errors)
        losses = pinball(quantiles, actual[:, :, None], self.levels).mean(axis=2)
        both = ~np.isnan(losses) & ~np.isnan(losses[:, [0]])
        forget = np.where(both, self._memory, 1.0)
        self._loss = forget * self._loss + np.where(both, losses, 0.0)
        self._base_loss = forget * self._base_loss + np.where(both, losses[:, [0]], 0.0)
        self._weight = forget * self._weight + both
        self._scored += both
        self._judge()
        self._forget(due)

    def look(
        self, steps: IntArray, said: Mapping[str, FloatArray], *, keep: bool = True
    ) -> Outlook:
        """The outlook from what each predictor says, kept to be scored.

        Args:
            steps: (m,) the slots to each series' horizon, 1 to `MOST_STEPS`.
            said: by name (m,) a mean that is not negative, NaN for none; a predictor that is
                not in it says nothing.
            keep: whether it will be scored: not, when the same slot was looked at before.

        """
        series, count = len(self), len(self.names)
        means = np.full((series, count), np.nan)
        for place, name in enumerate(self.names[:-1]):
            if name in said:
                means[:, place] = said[name]
        quantiles = self._with_spread(means, self._errors)
        usable = ~np.isnan(quantiles[:, :, 0])
        weights = self._weights(usable)
        total = weights.sum(axis=1)
        share = np.divide(weights, total[:, None], out=np.zeros_like(weights), where=weights > 0)
        mixed = (share[:, :, None] * np.nan_to_num(quantiles)).sum(axis=1)
        means[:, -1] = np.where(total > 0, (share * np.nan_to_num(means)).sum(axis=1), np.nan)
        quantiles[:, -1] = np.where((total > 0)[:, None], mixed, np.nan)
        if keep:
            rows = np.arange(series)
            due = (self._slot + steps) % (MOST_STEPS + 1)
            self._due_means[rows, due] = means
            self._due_quantiles[rows, due] = quantiles
        return self._chosen(means, quantiles)

    def _with_spread(self, means: FloatArray, errors: FloatArray) -> FloatArray:
        """(m, P, L) the means, with the quantiles of their own past errors around them."""
        ordered = np.sort(errors, axis=2)
        known = (~np.isnan(ordered)).sum(axis=2)
        place = np.maximum(known - 1, 0)[:, :, None] * self.levels
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(known - 1, 0)[:, :, None])
        below = np.take_along_axis(ordered, low, axis=2)
        above = np.take_along_axis(ordered, high, axis=2)
        spread = below + (place - low) * (above - below)
        spread[known < LEAST_ERRORS] = np.nan
        return np.asarray(np.maximum(means[:, :, None] + spread, 0.0), dtype=np.float64)

    def _weights(self, usable: BoolArray) -> FloatArray:
        ratio = np.maximum(self._ratio(), _LEAST_RATIO)
        weights = np.where(usable & ~self._aside, ratio**-_KEEN, 0.0)
        weights[:, -1] = 0.0
        return weights

    def _ratio(self) -> FloatArray:
        """(m, P) loss over the last value's; 1 where too little is scored to tell."""
        told = self._scored >= LEAST_SCORED
        ratio = (self._loss + _NOTHING) / (self._base_loss + _NOTHING)
        return np.where(told, ratio, 1.0)

    def _judge(self) -> None:
        ratio = self._ratio()
        self._aside = np.where(self._aside, ratio > _RETURN_BELOW, ratio > _WORSE)
        self._aside[:, 0] = False

    def _chosen(self, means: FloatArray, quantiles: FloatArray) -> Outlook:
        """The ensemble, unless the last value does better."""
        rows = np.arange(len(means))
        usable = ~np.isnan(quantiles[:, :, 0])
        ensemble = usable[:, -1] & ~self._aside[:, -1]
        place = np.where(ensemble, len(self.names) - 1, 0)
        told = self._scored >= LEAST_SCORED
        weight = np.maximum(self._weight, 1.0)
        return Outlook(
            means=means[rows, place],
            quantiles=quantiles[rows, place],
            chosen=np.where(usable[rows, place], place, -1),
            losses=np.where(told, self._loss / weight, np.nan),
            base_losses=np.where(told, self._base_loss / weight, np.nan),
            aside=self._aside.copy(),
            every=means,
        )

    def _forget(self, due: int) -> None:
        self._due_means[:, due] = np.nan
        self._due_quantiles[:, due] = np.nan


def pinball(quantiles: FloatArray, actual: FloatArray, levels: FloatArray) -> FloatArray:
    """The pinball loss of `quantiles` (..., L) for `actual` (..., 1) at `levels` (L,)."""
    over = actual - quantiles
    return np.asarray(np.where(over >= 0, levels * over, (levels - 1.0) * over), dtype=np.float64)
