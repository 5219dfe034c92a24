"""The estimator that learns nothing: the configured parameters are the ones to plan with."""

from __future__ import annotations

from controlloop.api.decision import Estimate
from controlloop.api.observation import Observation
from controlloop.api.system import System


class ConfiguredEstimator:
    """Plans with the performance data of the files."""

    def estimate(self, now: float, observation: Observation, system: System) -> Estimate:  # noqa: ARG002 - the protocol's arguments
        """The parameters as configured."""
        return Estimate(perf=system.perf)
