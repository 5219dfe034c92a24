"""Sets up when Python looks for garbage."""

from __future__ import annotations

import gc
from typing import Final

ALLOCATIONS: Final = 100_000


def collect_garbage_rarely() -> None:
    """Look for reference cycles after many allocations, not after a few hundred.

    A cycle of a large fleet makes a million objects from its metrics and lets go of them again,
    nearly all of which are freed by counting: looking through them all, again and again as they are
    made, would take as long as the rest of the cycle.
    """
    gc.set_threshold(ALLOCATIONS, 10, 10)
