"""How far a measurement may lie from what the model expects, by chance alone.

Of the logarithm of a mean over n requests the variance is floor^2 + spread^2/n: a part that no
number of requests removes, and the spread of single requests. The arrival rate is itself a count
of chance, so the operating point is not exactly the one that was measured: that error moves all
channels together, by their slope over the rate, which is steep at the knee of saturation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.tuner.expectation import Table


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations of logarithms: relative errors.

    Attributes:
        floor: of a mean over any number of requests.
        spread: of single requests: TTFT, ITL, throughput.
        rate: of the arrival rate, times sqrt(n) of n requests; less than 1, the value of a
            Poisson count, since what was counted is also what was served.
        margin: of the variance of the channels, for slopes that are not exact and for a
            variance that is itself estimated: without it stated intervals are too narrow.

    """

    floor: float = 0.02
    spread: tuple[float, float, float] = (0.3, 0.05, 0.5)
    rate: float = 0.05
    margin: float = 1.3

    def own(self, table: Table) -> FloatArray:
        """(m, 3) variance of each channel that it has in common with no other."""
        variance: FloatArray = (
            self.floor**2 + np.square(self.spread) / table.requests[:, np.newaxis]
        )
        return variance

    def scaled(self, table: Table, scale: FloatArray) -> FloatArray:
        """`own` times `scale` (m, 3), but never less than half of the floor is an error."""
        variance: FloatArray = np.maximum(self.own(table) * scale, self.floor**2 / 4)
        return variance

    def covariance(self, table: Table, by_rate: FloatArray, scale: FloatArray) -> FloatArray:
        """(m, 3, 3), with the parts that are of a single channel times `scale` (m, 3).

        A channel that is not known has variance 1 and nothing in common with the others.
        """
        requests = table.requests[:, np.newaxis]
        own = np.where(table.known, self.margin * self.scaled(table, scale), 1.0)
        together = np.where(table.known, by_rate, 0.0) * self.rate / np.sqrt(requests)
        covariance: FloatArray = own[:, :, np.newaxis] * np.eye(own.shape[1])
        covariance += together[:, :, np.newaxis] * together[:, np.newaxis, :]
        return covariance
