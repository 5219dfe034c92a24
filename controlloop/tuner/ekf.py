"""The estimator `ekf`: learns each pair's parameters from what its servers show, cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlloop.api.decision import Estimate
from controlloop.api.observation import Observation
from controlloop.api.system import System
from controlloop.keeping import load_kept, save_kept
from controlloop.plugins import Registry
from controlloop.protocols import QueueModel, StateStore
from controlloop.queueing.models import queue_models
from controlloop.tuner.belief import Belief
from controlloop.tuner.checkpoint import PairKey, decode, encode
from controlloop.tuner.pairs import Pairs
from controlloop.tuner.sampling import Sampler
from controlloop.tuner.tuning import Tuning


@dataclass(frozen=True, slots=True)
class EkfOptions:
    """How the estimator works.

    Attributes:
        apply: whether trusted parameters are planned with; otherwise they are only reported.
        window_s: the time over which the collector takes rates and means.
        tuning: how to learn.

    """

    apply: bool = False
    window_s: float = 60.0
    tuning: Tuning = field(default_factory=Tuning)


class EkfEstimator:
    """Learns parameters and says whether they may be planned with.

    Args:
        models: the queue models by name; None for those that this package brings.
        options: how to work.
        store: keeps what was learned over restarts; None keeps nothing.

    """

    def __init__(
        self,
        models: Registry[QueueModel] | None = None,
        options: EkfOptions | None = None,
        store: StateStore | None = None,
    ) -> None:
        self._options = options or EkfOptions()
        self._store = store
        self._sampler = Sampler(self._options.window_s)
        self._pairs = Pairs(models or queue_models(), self._options.tuning)
        self._kept: dict[PairKey, Belief] = {}
        self._started = False

    def estimate(self, now: float, observation: Observation, system: System) -> Estimate:
        """Learn from what was seen, and say what to plan with.

        Nothing that goes wrong here ends the cycle: it is planned with what is known, and a note
        says what went wrong.
        """
        notes = [] if self._started else self._start()
        notes += self._pairs.take_up(system.perf, self._kept)
        notes += self._pairs.learn(self._sampler.sample(now, observation))
        notes += self._save()
        known = self._pairs.estimates(apply=self._options.apply)
        found = [known.get((perf.model, perf.accelerator)) for perf in system.perf]
        return Estimate(
            perf=tuple(
                perf if one is None else one[0]
                for perf, one in zip(system.perf, found, strict=True)
            ),
            notes=tuple(notes),
            pairs=tuple(one[1] for one in found if one is not None),
            unknown=self._pairs.unknown,
        )

    def _start(self) -> list[str]:
        """Read back what was learned before the restart."""
        self._started = True
        if self._store is None:
            return []
        kept, notes = load_kept(
            self._store,
            decode,
            "tuner: kept state is not usable, set aside as",
            "tuner: it starts from the configured parameters",
        )
        self._kept = kept or {}
        return list(notes)

    def _save(self) -> list[str]:
        if self._store is None:
            return []
        not_kept = "tuner: what was learned is not kept"
        try:
            state = encode(self._pairs.beliefs)
        except ValueError as error:
            return [f"{not_kept}: {error}"]
        return list(save_kept(self._store, state, not_kept))
