"""What happened in a plant, as arrays over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.simulator.plant import PlantServer

# Latencies are counted in bins, each 2 % above the one below it.
BIN_EDGES_MS: Final[FloatArray] = np.geomspace(0.1, 1e8, 1048)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A run of a plant: arrays are (steps, servers), `cards` is (steps, types).

    Attributes:
        servers: the plant's servers.
        card_types: types of cards.
        step_s: the length of a step.
        times: ends of the steps, in seconds.
        arrived: requests that came in each step.
        within_ttft: those of them whose time to first token was within the objective.
        within_itl: those whose mean time between tokens was.
        within_both: those for which both were.
        ready: replicas that serve at its end.
        held: replicas that held cards in it.
        cards: cards held.
        ttft_bins: (servers, bins) requests by time to first token; see `BIN_EDGES_MS`.
        itl_bins: likewise by mean time between tokens.

    """

    servers: tuple[PlantServer, ...]
    card_types: tuple[str, ...]
    step_s: float
    times: FloatArray
    arrived: FloatArray
    within_ttft: FloatArray
    within_itl: FloatArray
    within_both: FloatArray
    ready: IntArray
    held: IntArray
    cards: IntArray
    ttft_bins: FloatArray
    itl_bins: FloatArray

    @property
    def rate_rps(self) -> FloatArray:
        """Arrivals in requests/s: (steps, servers)."""
        return np.asarray(self.arrived / self.step_s, dtype=np.float64)


def bins_of(latencies_ms: FloatArray) -> FloatArray:
    """How many of the latencies lie in each bin; the last has what was never answered."""
    at = np.searchsorted(BIN_EDGES_MS, latencies_ms)
    return np.bincount(at, minlength=len(BIN_EDGES_MS) + 1).astype(np.float64)


def percentile_of(bins: FloatArray, level: float) -> float:
    """The latency in ms at or below which the share `level` of the counted lies.

    0 where nothing was counted, infinite where so many were never answered.
    """
    below = np.cumsum(bins)
    if below[-1] <= 0:
        return 0.0
    at = int(np.searchsorted(below, level * below[-1]))
    return float(BIN_EDGES_MS[at]) if at < len(BIN_EDGES_MS) else float("inf")
