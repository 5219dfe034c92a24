"""The transition penalty of a server on several accelerators: a sum over its variants."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import FloatArray, IntArray

# What it takes to move to another accelerator, as a share of both expenses.
SWITCH_PENALTY: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class MixValues:
    """What replicas of each row are worth: a transition penalty that is a sum over variants.

    Each accelerator is compared with what runs of it now: a new one costs its switch, one that
    is given up saves its cost less the switch.

    Attributes:
        slope: (m,) of one replica.
        entry: (m,) added when the row is used at all: what runs there is not given up.
        running: (m,) replicas that run now, 0 for none.
        unchanged: (m,) added when exactly those are kept.
        base: (S,) the value of giving up all that runs.

    """

    slope: FloatArray
    entry: FloatArray
    running: IntArray
    unchanged: FloatArray
    base: FloatArray

    @classmethod
    def of(cls, candidates: Candidates) -> MixValues:
        """The values of what there is to choose from."""
        now = candidates.current_variants
        width = len(candidates.accelerators) + 1
        wanted = candidates.server * width + candidates.accelerator
        order = np.argsort(now.server * width + now.accelerator, kind="stable")
        keys = (now.server * width + now.accelerator)[order]
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        runs = np.zeros(len(wanted), dtype=np.bool_)
        cost, running = np.zeros(len(wanted)), np.zeros(len(wanted), dtype=np.int64)
        if len(keys):
            runs = (keys[at] == wanted) & (candidates.accelerator >= 0)
            cost = np.where(runs, now.cost[order][at], 0.0)
            running = np.where(runs, now.replicas[order][at], 0)
        unit = candidates.cost / np.maximum(candidates.replicas, 1)
        given_up = np.zeros(len(candidates.servers))
        np.add.at(given_up, now.server, now.cost)
        return cls(
            slope=np.where(runs, unit, (1 + SWITCH_PENALTY) * unit),
            entry=-SWITCH_PENALTY * cost,
            running=running,
            unchanged=np.where(runs, cost - unit * running, 0.0),
            base=-(1 - SWITCH_PENALTY) * given_up,
        )

    def of_rows(self, candidates: Candidates) -> FloatArray:
        """The value of each row alone: (m,)."""
        value = self.base[candidates.server] + self.slope * candidates.replicas
        value += np.where(candidates.replicas > 0, self.entry, 0.0)
        kept = (candidates.replicas == self.running) & (candidates.replicas > 0)
        return np.asarray(value + np.where(kept, self.unchanged, 0.0))

    def of_mix(self, server: int, mix: Iterable[tuple[int, int]]) -> float:
        """The value of one mix of one server."""
        terms = [float(self.base[server])]
        for row, replicas in mix:
            terms += [float(self.slope[row]) * replicas, float(self.entry[row])]
            if replicas == self.running[row]:
                terms.append(float(self.unchanged[row]))
        return math.fsum(terms)
