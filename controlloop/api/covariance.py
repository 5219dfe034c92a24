"""What a covariance must be like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

_ROUNDING: Final = 1e-9


def is_covariance(rows: Sequence[Sequence[float]], size: int) -> bool:
    """Whether `rows` are a covariance of `size` numbers.

    Square, symmetric, and without an eigenvalue below 0, apart from rounding.
    """
    if len(rows) != size or any(len(row) != size for row in rows):
        return False
    matrix = np.asarray(rows, dtype=np.float64)
    slack = _ROUNDING * max(float(np.abs(matrix).max(initial=0.0)), 1e-300)
    if not np.allclose(matrix, matrix.T, rtol=0.0, atol=slack):
        return False
    return bool(np.linalg.eigvalsh(matrix).min(initial=0.0) >= -slack * size)
