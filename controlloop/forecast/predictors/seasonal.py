"""What the same time of the day or the week was, at the level of today."""

from __future__ import annotations

from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.forecast.history import LONG_SLOT_S, LONG_SLOTS, History

DAY_S: Final = 86_400.0
WEEK_S: Final = 7 * DAY_S
_MOST_SEASONS: Final = 7
_MEMORY_S: Final = 1200.0
_DAMPING_S: Final = 7200.0
_FORGETTING: Final = 0.7
_FACTORS: Final = (0.2, 5.0)


class Seasonal:
    """The mean of the same time in past seasons, moved by how far today is from it.

    Args:
        name: what it is called.
        season_s: length of a season, seconds.

    """

    def __init__(self, name: str, season_s: float) -> None:
        self.name = name
        self.needs_s = season_s + 2 * LONG_SLOT_S
        self._season_s = season_s

    def predict(self, history: History, steps: FloatArray) -> FloatArray:
        """The forecast `steps` (m,) slots on: (m,), NaN without a season that is known."""
        series = len(history.values)
        slots = max(min(round(2 * _MEMORY_S / history.step_s), history.width), 1)
        ages_s = (np.arange(slots)[::-1] + 0.5) * history.step_s
        target = history.end + (steps - 0.5) * history.step_s
        past = np.broadcast_to(history.end - ages_s, (series, slots))
        profile = self._profile(history, np.concatenate([past, target[:, None]], axis=1))
        usual, then = profile[:, :-1], profile[:, -1]
        recent = history.values[:, -slots:]
        both = ~np.isnan(recent) & ~np.isnan(usual)
        weights = np.exp(-ages_s / _MEMORY_S)
        now = np.where(both, recent, 0.0) @ weights
        before = np.where(both, usual, 0.0) @ weights
        # Busier than usual by a factor, not by an amount: the amount would outlive the peak.
        factor = np.divide(now, before, out=np.ones(series), where=before > 0)
        lasting = np.exp(-steps * history.step_s / _DAMPING_S)
        return np.asarray(then * np.clip(factor, *_FACTORS) ** lasting, dtype=np.float64)

    def _profile(self, history: History, times: FloatArray) -> FloatArray:
        """(m, S) the weighted mean of the same times in past seasons."""
        total: FloatArray = np.zeros(times.shape)
        weight: FloatArray = np.zeros(times.shape)
        for season in range(1, _MOST_SEASONS + 1):
            if season * self._season_s > LONG_SLOTS * LONG_SLOT_S:
                break
            found = history.long_at(times - season * self._season_s)
            known = ~np.isnan(found)
            share = _FORGETTING**season
            total += np.where(known, share * found, 0.0)
            weight += share * known
        mean = np.divide(total, weight, out=np.full(times.shape, np.nan), where=weight > 0)
        return np.asarray(mean, dtype=np.float64)
