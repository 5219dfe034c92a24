"""What is left out of what is kept, where it is too large for what keeps it.

The least missed goes first. Nothing that is left out is invented later: it is not known then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.errors import StateTooLargeError
from controlloop.forecast.checkpoint import Kept, encode
from controlloop.protocols import StateStore

LONG_RATES: Final = "rates.long_values"

ORDER: Final = (
    ("tokens.long_values", "the long means of token lengths"),
    ("tokens.errors", "the spreads of token lengths"),
    ("rates.errors", "the spreads of forecasts, learned anew"),
    (LONG_RATES, "the long means of arrival rates, asked of the metric source at a start"),
    ("tokens.values", "the last periods' token lengths"),
    ("rates.values", "the last periods' arrival rates"),
)
"""The arrays that are left out one after the other, and what they are."""


def thinned(kept: Kept, count: int) -> Kept:
    """What is kept, without the first `count` of `ORDER`."""
    if not count:
        return kept
    names = tuple(name for name, _ in ORDER[:count])
    rates, tokens = _without(kept.rates, "rates.", names), _without(kept.tokens, "tokens.", names)
    return replace(kept, left_out=names, rates=rates, tokens=tokens)


def save_what_fits(store: StateStore, kept: Kept, least: int) -> int:
    """Keep as much as fits, `least` of `ORDER` left out from the start; how many were.

    Raises:
        StateStoreError: not even the least of it fits, or the store does not answer.

    """
    for count in range(least, len(ORDER)):
        try:
            store.save(encode(thinned(kept, count)))
        except StateTooLargeError:
            continue
        return count
    store.save(encode(thinned(kept, len(ORDER))))
    return len(ORDER)


def words_of(count: int) -> str:
    """What the first `count` of `ORDER` are."""
    return "; ".join(words for _, words in ORDER[:count])


def _without(
    arrays: Mapping[str, FloatArray], prefix: str, names: tuple[str, ...]
) -> dict[str, FloatArray]:
    """The arrays, those of `names` with nothing known in them: that takes no room."""
    return {
        name: np.full_like(array, np.nan) if prefix + name in names else array
        for name, array in arrays.items()
    }
