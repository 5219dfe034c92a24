from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.replicas import Replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.simulator.curve import ReplicaCurve

MODEL = StateDependent()


def one_replica(batch: int = 64, given: float = 512.0, asked: float = 256.0) -> Replicas:
    return Replicas(
        max_batch=np.array([batch]),
        max_queue=np.array([10 * batch]),
        input_tokens=np.array([given]),
        output_tokens=np.array([asked]),
        parameters=np.array([[11.0, 0.195, 63.7, 0.00515]]),
    )


CURVE = ReplicaCurve(MODEL, one_replica())


def settled(curve: ReplicaCurve, rate_rps: float, seconds: float = 10.0) -> float:
    in_system = 0.0
    for _ in range(20_000):
        after = curve.after(in_system, rate_rps * seconds, seconds)
        if abs(after - in_system) < 1e-12:
            break
        in_system = after
    return in_system


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("load", [0.01, 0.3, 0.5, 0.8, 0.9, 0.95])
def test_the_steady_state_is_the_queue_models(batch: int, load: float) -> None:
    replica = one_replica(batch)
    rate = load * MODEL.rate_range_rps(replica)[1]
    theory = MODEL.analyze(replica, rate)
    curve = ReplicaCurve(MODEL, replica)

    # The model turns requests away when its queue is full; the plant gets those it lets in.
    state = curve.at(settled(curve, float(theory.throughput_rps[0])))

    assert state.throughput_rps == pytest.approx(theory.throughput_rps[0], rel=1e-6)
    assert state.in_system == pytest.approx(theory.in_system[0], rel=1e-3)
    assert state.itl_ms == pytest.approx(theory.itl_ms[0], rel=1e-3)
    assert state.ttft_ms == pytest.approx(theory.ttft_ms[0], rel=5e-3)


@pytest.mark.parametrize("seconds", [0.1, 10.0, 1000.0])
def test_the_steady_state_does_not_depend_on_the_step(seconds: float) -> None:
    assert settled(CURVE, 9.0, seconds) == pytest.approx(settled(CURVE, 9.0), rel=1e-6)


def test_beyond_saturation_the_queue_grows_by_what_cannot_be_served() -> None:
    excess = 3.0
    rate = CURVE.max_throughput_rps + excess
    start = 2000.0

    assert CURVE.after(start, rate * 60.0, 60.0) == pytest.approx(start + excess * 60.0)


def test_a_backlog_is_worked_off_at_the_rate_of_a_full_batch() -> None:
    assert CURVE.after(2000.0, 0.0, 60.0) == pytest.approx(2000.0 - 60 * CURVE.max_throughput_rps)


def test_a_queue_beyond_saturation_waits_its_length_over_the_rate() -> None:
    state = CURVE.at(2000.0)

    assert state.in_service == pytest.approx(64.0, rel=0.01)
    assert state.wait_ms == pytest.approx(1000.0 * state.waiting / CURVE.max_throughput_rps)


@given(
    st.floats(0.0, 5000.0),
    st.floats(0.0, 10_000.0),
    st.floats(0.01, 3600.0),
)
def test_no_more_leaves_than_was_there_and_no_faster_than_a_full_batch(
    in_system: float, arrivals: float, seconds: float
) -> None:
    after = CURVE.after(in_system, arrivals, seconds)

    left = in_system + arrivals - after
    assert after >= 0.0
    assert left >= -1e-9
    assert left <= CURVE.max_throughput_rps * seconds * (1 + 1e-9) + 1e-9


@given(st.floats(0.0, 3000.0), st.floats(0.0, 3000.0))
def test_more_requests_inside_are_never_faster(one: float, other: float) -> None:
    fewer, more = CURVE.at(min(one, other)), CURVE.at(max(one, other))

    assert fewer.ttft_ms <= more.ttft_ms * (1 + 1e-9) + 1e-9
    assert fewer.itl_ms <= more.itl_ms * (1 + 1e-9)
    assert fewer.throughput_rps <= more.throughput_rps * (1 + 1e-9)


def test_a_replica_that_the_model_cannot_evaluate_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot evaluate"):
        ReplicaCurve(MODEL, one_replica(asked=0.0))
