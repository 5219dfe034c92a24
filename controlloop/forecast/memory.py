"""What a forecaster knows when it starts: what it kept, or else what the metric source kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from controlloop.api.observation import Observation, Workload
from controlloop.api.replicas import FloatArray, IntArray
from controlloop.errors import ControlLoopError
from controlloop.forecast.checkpoint import Kept, decode
from controlloop.forecast.history import LONG_SLOT_S, RECENT_SLOTS
from controlloop.forecast.lane import Lane
from controlloop.keeping import load_kept
from controlloop.protocols import RateHistory, StateStore

REPLAYED: Final = 100
MOST_REPLAYED: Final = 20_000
"""Forecasts of single servers that are made of the past at a start, so that it stays quick."""


def recalled(store: StateStore) -> tuple[Kept | None, tuple[str, ...]]:
    """What the store has, and what there is to say; what cannot be used is set aside."""
    return load_kept(
        store,
        decode,
        "forecast: kept history is not usable, set aside as",
        "forecast: it starts without history",
    )


def warm(
    lane: Lane,
    past: RateHistory,
    span_s: float,
    now: float,
    observation: Observation,
    steps: IntArray,
) -> tuple[str, ...]:
    """Fill the history of a lane whose rows are the observation's servers; says how that went.

    The last slots are gone through as if they had been seen, so that predictors are scored.
    """
    step_s = lane.book.step_s
    # The newest slot is what is measured now.
    recent_slots = min(RECENT_SLOTS - 1, int(span_s // step_s))
    names = [one.name for one in observation.servers]
    problem = fill_far(lane, past, span_s, now, observation, names)
    if problem:
        return problem
    try:
        near = past.rates_rps(now - step_s, _asked(observation), max(recent_slots, 1), step_s)
    except Exception as error:  # noqa: BLE001 - the past is a help, and no reason to fail
        return _unknown(error)
    columns = _table(names, near, max(recent_slots, 1)).T
    replayed = min(REPLAYED, max(MOST_REPLAYED // max(len(names), 1), 1))
    for back, column in zip(range(len(columns), 0, -1), columns, strict=True):
        at = now - back * step_s
        if back > replayed:
            lane.book.add_recent(at, column)
        else:
            lane.add(at, column, steps, long=False)
    known = sum(bool(np.isfinite(one).any()) for one in near.values())
    of = f"{known} of {len(names)} servers"
    hours = f"{span_s / 3600.0:.0f} h"
    return (f"forecast: of the past {hours} the metric source told something of {of}",)


def fill_far(
    lane: Lane,
    past: RateHistory,
    span_s: float,
    now: float,
    observation: Observation,
    names: Sequence[str],
) -> tuple[str, ...]:
    """Fill the long means of a lane whose rows are the servers `names`; a remark if it failed."""
    end, slots = now // LONG_SLOT_S * LONG_SLOT_S, max(int(span_s // LONG_SLOT_S), 1)
    try:
        far = past.rates_rps(end, _asked(observation), slots, LONG_SLOT_S)
    except Exception as error:  # noqa: BLE001 - the past is a help, and no reason to fail
        return _unknown(error)
    lane.book.fill_long(end, _table(names, far, slots))
    return ()


def _asked(observation: Observation) -> list[Workload]:
    """All workloads: what a sibling served in the past was its server's load, too."""
    return [each for one in observation.servers for each in (one.workload, *one.siblings)]


def _unknown(error: Exception) -> tuple[str, ...]:
    words = str(error) if isinstance(error, ControlLoopError) else repr(error)
    return (f"forecast: the past is not known, it starts without: {words}",)


def _table(names: Sequence[str], found: Mapping[str, FloatArray], slots: int) -> FloatArray:
    """(servers, slots) the rates found, cleaned of what is no rate."""
    table = np.full((len(names), slots), np.nan)
    for row, name in enumerate(names):
        if name in found:
            table[row] = found[name]
    return np.where(np.isfinite(table) & (table >= 0), table, np.nan)
