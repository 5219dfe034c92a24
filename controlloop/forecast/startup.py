"""How long a replica takes from its start to serving, learned from the pods that were seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from controlloop.api.observation import Observation, Pod

KEPT: Final = 30
LONGEST_S: Final = 3600.0
"""Beyond an hour it is no start but a pod whose readiness came and went."""

Pair = tuple[str, str]
"""Model and accelerator."""


class StartUps:
    """The start-up times of each pair of model and accelerator.

    Args:
        prior_s: what is taken for a pair of which no start was seen, seconds.

    """

    def __init__(self, prior_s: float) -> None:
        self._prior_s = prior_s
        self._seen: dict[Pair, list[float]] = {}
        self._known: frozenset[str] = frozenset()
        self._first = True

    def learn(self, observation: Observation) -> None:
        """Take in the pods that became ready; each counts once."""
        known = set()
        for server in observation.servers:
            workload = server.workload
            pair = (workload.model, workload.accelerator)
            for pod in workload.pods:
                took_s = _took_s(pod)
                if took_s is None:
                    continue
                key = pod.uid or f"{workload.ref.namespace}/{pod.name}"
                known.add(key)
                # Pods that were there before us and took no time were put there, not started.
                if key not in self._known and (took_s > 0 or not self._first):
                    self._seen[pair] = [*self._seen.get(pair, []), took_s][-KEPT:]
        self._known, self._first = frozenset(known), False

    def expected_s(self, model: str, accelerator: str) -> float:
        """The median of the last starts; without one, of all starts of the model, or the prior."""
        seen = self._seen.get((model, accelerator))
        if not seen:
            seen = [
                took_s
                for pair, all_of in self._seen.items()
                if pair[0] == model
                for took_s in all_of
            ]
        return float(np.median(seen)) if seen else self._prior_s

    @property
    def state(self) -> Mapping[Pair, tuple[float, ...]]:
        """What was seen, to be kept."""
        return {pair: tuple(seen) for pair, seen in self._seen.items()}

    def restore(self, state: Mapping[Pair, tuple[float, ...]]) -> None:
        """Take up what was kept."""
        self._seen = {pair: list(seen)[-KEPT:] for pair, seen in state.items()}


def _took_s(pod: Pod) -> float | None:
    """The start-up time that a pod shows; None where it shows none."""
    if pod.started_at is None or pod.ready_since is None or pod.restarts:
        return None
    took_s = pod.ready_since - pod.started_at
    return took_s if 0 <= took_s <= LONGEST_S else None
