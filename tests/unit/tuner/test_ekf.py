from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlloop.api.decision import Estimate
from controlloop.api.estimates import Origin, Trust
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Missing, Present, Stale
from controlloop.api.replicas import FloatArray, Replicas
from controlloop.api.system import PerfParameters, System
from controlloop.errors import StateStoreError
from controlloop.plugins import Registry
from controlloop.protocols import Estimator, QueueModel
from controlloop.queueing.models import queue_models, replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.ekf import EkfEstimator, EkfOptions
from controlloop.tuner.estimators import EKF, estimators
from controlloop.tuner.state_file import FileStateStore

MODEL = StateDependent()
TRUTH = (12.0, 0.3, 25.0, 0.002)
CONFIGURED = PerfParameters("m", "a", tuple(1.4 * value for value in TRUTH), 64, 512)
OTHER = replace(CONFIGURED, accelerator="b")
SYSTEM = System(perf=(OTHER, CONFIGURED))


def signals(number: int, truth: Sequence[float] = TRUTH) -> Signals:
    pair = replicas(64, 500.0, 200.0, truth)
    load = 0.5 - 0.35 * math.cos(number / 4)
    rate = load * MODEL.rate_range_rps(pair)[1]
    analysis = MODEL.analyze(pair, rate)
    noise = np.exp(np.random.default_rng(number).normal(0, 0.02, 2))
    return Signals(
        arrival_rate_rps=Present(float(rate[0])),
        completion_rate_rps=Present(float(rate[0])),
        input_tokens=Present(500.0),
        output_tokens=Present(200.0),
        ttft_ms=Present(float(analysis.ttft_ms[0] * noise[0])),
        itl_ms=Present(float(analysis.itl_ms[0] * noise[1])),
        running=Present(float(analysis.in_service[0])),
        waiting=Present(0.0),
        reported_pods=1,
        expected_pods=1,
    )


def server(shown: Signals, name: str = "s", accelerator: str = "a") -> ServerObservation:
    workload = Workload(WorkloadRef("ns", name), name, "m", "c", accelerator, 64, 1, 1)
    return ServerObservation(workload, shown)


def cycles(estimator: Estimator, numbers: Iterable[int], system: System = SYSTEM) -> list[Estimate]:
    return [
        estimator.estimate(
            60.0 * number, Observation(60.0 * number, (server(signals(number)),)), system
        )
        for number in numbers
    ]


APPLY = EkfOptions(apply=True)


def test_it_learns_reports_and_applies_only_what_was_seen_and_is_trusted() -> None:
    found = cycles(EkfEstimator(options=APPLY), range(30))
    for estimate in found:
        assert [(each.model, each.accelerator) for each in estimate.perf] == [
            ("m", "b"),
            ("m", "a"),
        ]
        assert estimate.perf[0] == OTHER
    assert found[3].perf == SYSTEM.perf
    other, learned = found[-1].pairs
    assert (learned.trust, learned.origin) == (Trust.TRUSTED, Origin.LEARNED)
    assert (other.trust, other.origin) == (Trust.WARMING_UP, Origin.CONFIGURED)
    assert found[-1].perf[1].parameters == pytest.approx(TRUTH, rel=0.1)
    applied = found[-1].perf[1]
    assert replace(applied, parameters=CONFIGURED.parameters, log_covariance=()) == CONFIGURED
    of_errors = [row[at] ** 0.5 for at, row in enumerate(applied.log_covariance)]
    assert of_errors == pytest.approx(learned.standard_errors)
    assert learned.parameters == pytest.approx(found[-1].perf[1].parameters)
    assert learned.last is not None
    assert learned.last.predicted_itl_ms == pytest.approx(learned.last.observed_itl_ms, rel=0.1)


def test_in_mode_observe_it_reports_and_plans_with_the_configuration() -> None:
    estimate = cycles(EkfEstimator(), range(30))[-1]
    assert estimate.perf == SYSTEM.perf
    assert estimate.pairs[1].trust is Trust.TRUSTED
    assert estimate.pairs[1].origin is Origin.CONFIGURED
    assert estimate.pairs[1].parameters == pytest.approx(TRUTH, rel=0.1)


def test_a_doubtful_pair_is_planned_with_what_was_trusted_last() -> None:
    estimator = EkfEstimator(options=APPLY)
    trusted = cycles(estimator, range(30))[-1].perf[1]
    for number in range(30, 35):
        shown = signals(number, [3 * value for value in TRUTH])
        estimate = estimator.estimate(60.0 * number, Observation(0.0, (server(shown),)), SYSTEM)
    assert estimate.pairs[1].trust is Trust.DOUBTFUL
    assert estimate.pairs[1].reason
    assert estimate.pairs[1].origin is Origin.LAST_TRUSTED
    assert estimate.perf[1].parameters == pytest.approx(trusted.parameters, rel=1e-12)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path / "state.json")
    whole = cycles(EkfEstimator(options=APPLY), range(40))[-1]
    cycles(EkfEstimator(options=APPLY, store=store), range(20))
    restarted = cycles(EkfEstimator(options=APPLY, store=store), range(20, 40))
    assert restarted[0].pairs[1].trust is Trust.TRUSTED
    assert restarted[-1].perf[1].parameters == pytest.approx(whole.perf[1].parameters, rel=1e-6)


@pytest.mark.parametrize("state", [b"", b"{", b'{"kind": "another"}', b"\xff\xfe"])
def test_a_bad_state_is_set_aside_said_and_never_fatal(tmp_path: Path, state: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(state)
    found = cycles(EkfEstimator(store=FileStateStore(path)), range(2))
    assert "set aside" in found[0].notes[0]
    assert found[1].notes == ()
    assert (tmp_path / "state.json.bad-1").read_bytes() == state
    assert path.exists()


class BrokenStore:
    def load(self) -> bytes | None:
        raise StateStoreError("the disk is gone")

    def save(self, state: bytes) -> None:
        raise StateStoreError("the disk is gone")

    def set_aside(self) -> str:
        raise StateStoreError("the disk is gone")


def test_a_store_that_fails_costs_a_note_and_nothing_else() -> None:
    found = cycles(EkfEstimator(options=APPLY, store=BrokenStore()), range(30))
    assert all("the disk is gone" in note for each in found for note in each.notes)
    assert found[-1].perf[1].parameters == pytest.approx(TRUTH, rel=0.1)


def test_another_configuration_of_a_pair_is_learned_from_the_start(tmp_path: Path) -> None:
    estimator = EkfEstimator(options=APPLY, store=FileStateStore(tmp_path / "state.json"))
    cycles(estimator, range(30))
    anew = replace(CONFIGURED, parameters=(30.0, 1.0, 90.0, 0.01))
    (estimate,) = cycles(estimator, [30], System(perf=(anew,)))
    assert estimate.perf == (anew,)
    assert estimate.pairs[0].accepted == 0


def test_an_unknown_pair_is_counted_and_changes_nothing() -> None:
    estimator = EkfEstimator()
    before = cycles(estimator, range(30))[-1]
    unknown = Observation(0.0, (server(signals(30), accelerator="nowhere"),))
    after = estimator.estimate(1800.0, unknown, SYSTEM)
    assert after.unknown == {("m", "nowhere"): 1}
    assert after.pairs == before.pairs


def test_two_servers_of_one_pair_teach_it_twice() -> None:
    estimator = EkfEstimator()
    for number in range(10):
        servers = (server(signals(number), "s1"), server(signals(number + 50), "s2"))
        estimate = estimator.estimate(60.0 * number, Observation(0.0, servers), SYSTEM)
    learned = estimate.pairs[1]
    assert learned.accepted + sum(learned.rejected.values()) > 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"itl_ms": Missing("down")}, "missing"),
        ({"ttft_ms": Stale(60.0, 90.0)}, "stale"),
        ({"itl_ms": Present(0.0)}, "not-positive"),
        ({"itl_ms": Present(math.nan)}, "not-finite"),
        ({"ttft_ms": Present(-5.0)}, "not-positive"),
        ({"completion_rate_rps": Present(1 / 60), "running": Present(0.0)}, "too-few-requests"),
        ({"arrival_rate_rps": Present(0.0), "completion_rate_rps": Present(0.0)}, "idle"),
    ],
)
def test_a_bad_cycle_changes_nothing_but_a_count(change: dict[str, Any], reason: str) -> None:
    estimator = EkfEstimator(options=APPLY)
    before = cycles(estimator, range(30))[-1]
    shown = replace(signals(30), **change)
    if reason == "too-few-requests":
        shown = replace(shown, arrival_rate_rps=Present(1 / 60))
    after = estimator.estimate(1800.0, Observation(0.0, (server(shown),)), SYSTEM)
    assert after.perf == before.perf
    counted = dict(before.pairs[1].rejected)
    counted[reason] = counted.get(reason, 0) + 1
    assert replace(after.pairs[1], rejected=before.pairs[1].rejected) == before.pairs[1]
    assert after.pairs[1].rejected == counted


@pytest.mark.parametrize(
    ("perf", "why"),
    [
        (replace(CONFIGURED, queue_model="none-such"), "unknown queue model"),
        (replace(CONFIGURED, parameters=(1.0, math.nan, 1.0, 1.0)), "finite"),
        (replace(CONFIGURED, parameters=(1.0, -1.0, 1.0, 1.0)), "at least 0"),
        (replace(CONFIGURED, parameter_names=("a", "b", "c", "d")), "parameters of"),
    ],
)
def test_a_pair_that_cannot_be_learned_is_planned_as_configured(
    perf: PerfParameters, why: str
) -> None:
    (estimate,) = cycles(EkfEstimator(options=APPLY), [0], System(perf=(perf,)))
    assert estimate.perf == (perf,)
    assert estimate.pairs == ()
    assert why in estimate.notes[0]


class Breaking(StateDependent):
    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        raise ValueError("a defect")


def test_a_queue_model_with_a_defect_stops_neither_the_cycle_nor_other_models() -> None:
    models: Registry[QueueModel] = Registry("queue model", QueueModel)
    models.add("state-dependent", StateDependent)
    models.add("breaking", Breaking)
    bad = replace(CONFIGURED, accelerator="b", queue_model="breaking")
    estimator = EkfEstimator(models, APPLY)
    for number in range(30):
        servers = (server(signals(number)), server(signals(number), "s2", "b"))
        system = System(perf=(bad, CONFIGURED))
        estimate = estimator.estimate(60.0 * number, Observation(0.0, servers), system)
    assert any("a defect" in note for note in estimate.notes)
    assert estimate.perf[0] == bad
    assert estimate.perf[1].parameters == pytest.approx(TRUTH, rel=0.1)


def test_it_is_in_the_table() -> None:
    assert isinstance(estimators().create(EKF), EkfEstimator)
    assert queue_models().names[0] == "state-dependent"
