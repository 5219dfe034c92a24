"""Times and money as the demo writes them."""

from __future__ import annotations

from typing import Final

from controlloop.units import hours_from_s

CENTS_PER_DOLLAR: Final = 100.0


def clock_time(seconds: float) -> str:
    """Hours and minutes since the first midnight."""
    minutes = round(hours_from_s(seconds) * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def dollars(cents: float, digits: int = 0) -> str:
    """An amount of cents in dollars."""
    return f"${cents / CENTS_PER_DOLLAR:,.{digits}f}"
