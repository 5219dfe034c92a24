"""Whether the loop may plan with what was learned of a pair, and if not, why."""

from __future__ import annotations

from typing import Final

import numpy as np

from controlloop.api.estimates import Trust
from controlloop.tuner.belief import Belief

FIRST_FIT: Final = 4
"""Measurements that a first fit is made of."""
SETTLED: Final = 3
"""Measurements that a fit must have stood since."""
PROVEN: Final = 15
"""Measurements learned since a fit from which on a trusted belief is one to come back to. From
there on what is uncertain is the load, at the knee of saturation, and not the parameters."""
MOST_REJECTED: Final = 0.5
"""Share of the last measurements that may be rejected."""
MOST_UNCERTAIN: Final = 0.15
"""Relative uncertainty of a prediction at the last operating point that may be planned with."""
MOST_NOISE: Final = 100.0
"""Variance of the measurements, in units of what is assumed, beyond which nothing is believed."""


def verdict(belief: Belief) -> tuple[Trust, str]:
    """The verdict, and its reason ("" where it is trusted)."""
    if not belief.fitted:
        have = len(belief.recent)
        if have < FIRST_FIT:
            return Trust.WARMING_UP, f"{have} of {FIRST_FIT} observations for a first fit"
        return Trust.WARMING_UP, "no parameters fit the observations yet"
    reason = _doubt(belief)
    if not reason:
        return Trust.TRUSTED, ""
    return (Trust.WARMING_UP if belief.trusted is None else Trust.DOUBTFUL), reason


def _doubt(belief: Belief) -> str:
    rejected = len(belief.judged) - sum(belief.judged)
    if belief.judged and rejected >= max(MOST_REJECTED * len(belief.judged), 3):
        return f"{rejected} of the last {len(belief.judged)} observations rejected as outliers"
    if belief.since_fit < SETTLED:
        return f"{belief.since_fit} of {SETTLED} observations since the last fit"
    if belief.noise.max() >= MOST_NOISE:
        times = float(np.sqrt(MOST_NOISE))
        return f"observations scatter more than {times:.0f} times as much as expected"
    compared = belief.compared
    uncertainty = 0.0 if compared is None else float(np.nanmax(compared.uncertainty))
    if uncertainty > MOST_UNCERTAIN and belief.since_fit < PROVEN:
        return f"latencies at this load are known to {uncertainty:.0%} only"
    return ""
