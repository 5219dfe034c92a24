"""Errors of backtests."""

from __future__ import annotations

from controlloop.errors import ControlLoopError


class BacktestError(ControlLoopError):
    """A backtest that cannot run as asked."""
