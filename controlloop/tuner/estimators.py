"""The table of estimators: a new one is one line here."""

from __future__ import annotations

from typing import Final

from controlloop.plugins import Registry
from controlloop.protocols import Estimator
from controlloop.tuner.configured import ConfiguredEstimator
from controlloop.tuner.ekf import EkfEstimator

EKF: Final = "ekf"


def estimators() -> Registry[Estimator]:
    """Every estimator that this package brings."""
    registry: Registry[Estimator] = Registry("estimator", Estimator)
    registry.add("configured", ConfiguredEstimator)
    registry.add(EKF, EkfEstimator)
    return registry
