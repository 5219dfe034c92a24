from __future__ import annotations

import numpy as np
import pytest

from controlloop.simulator.traffic import DayCurve

CURVE = DayCurve(trough_rps=5.0, peak_rps=20.0, peak_hour=15.0, noise=0.1)


def test_a_curve_peaks_at_its_hour_and_is_least_twelve_hours_away() -> None:
    times = np.arange(0.0, 86_400.0, 60.0)

    rates = CURVE.mean_rps(times)

    assert rates.max() == pytest.approx(20.0)
    assert rates.min() == pytest.approx(5.0)
    assert times[rates.argmax()] == 15 * 3600
    assert times[rates.argmin()] == 3 * 3600
