from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlloop.backtest.building import build
from controlloop.backtest.case import Case, Part
from controlloop.backtest.traces import known_trace
from controlloop.errors import InputError, UnknownPluginError
from controlloop.queueing.models import queue_models
from controlloop.simulator.workloads.trace import Trace, TraceSummary

MODELS = queue_models().create


def write_trace(path: Path, seconds: float, rate_rps: float) -> str:
    times = np.arange(0.0, seconds, 1.0 / rate_rps)
    lines = [f"{time:.3f},800,40" for time in times]
    path.write_text("\n".join(["time,input_tokens,output_tokens", *lines]) + "\n")
    return str(path)


def test_equal_cases_give_equal_requests_and_training_gives_others() -> None:
    case = Case("burst", hours=0.2, seed=3)
    first, again = build(case, MODELS), build(case, MODELS)
    training = build(case.training, MODELS)

    for one, other, trained in zip(first.requests, again.requests, training.requests, strict=True):
        assert np.array_equal(one.times_s, other.times_s)
        assert not np.array_equal(one.times_s[:50], trained.times_s[:50])
    assert case.training.part is Part.TRAIN


def test_the_fleet_has_two_models_three_classes_and_cards_enough_for_its_peak() -> None:
    scenario = build(Case("diurnal", hours=1.0), MODELS)
    servers = scenario.servers

    assert len({one.model for one in servers}) == 2
    assert {one.service_class for one in servers} == {"Premium", "Standard", "Free"}
    rates = scenario.rates_rps(300.0)
    for column, able in enumerate(scenario.capability):
        busiest = rates[:, column].max() / able.rate_rps
        assert 5 < busiest < 13
        assert rates[:, column].min() < rates[:, column].max() / 2


def test_start_up_times_are_the_servers_own_unless_told(tmp_path: Path) -> None:
    own = build(Case("steady", hours=0.1), MODELS).servers
    told = build(Case("steady", hours=0.1, startup_s=300.0), MODELS).servers
    assert {one.startup_s for one in own} == {90.0, 120.0}
    assert {one.startup_s for one in told} == {300.0}


def test_a_trace_is_trained_on_its_first_half_and_judged_on_its_second(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "trace.csv", 1200.0, 1.0)
    judged = build(Case("trace", path, hours=1.0), MODELS)
    training = build(Case("trace", path, hours=1.0).training, MODELS)

    # The last third of the first half warms up; nothing of the second half is trained on.
    assert judged.from_s == pytest.approx(200.0, abs=1)
    assert judged.to_s - judged.from_s == pytest.approx(600.0, abs=1)
    assert training.to_s == pytest.approx(600.0, abs=1)
    mean_rps = len(judged.requests[0]) / judged.to_s
    assert mean_rps / judged.capability[0].rate_rps == pytest.approx(8.0, rel=0.05)
    assert judged.servers[0].input_tokens == 800.0


def test_a_trace_is_read_again_only_where_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_trace(tmp_path / "trace.csv", 600.0, 1.0)
    read = []
    summary = Trace.summary

    def counted(trace: Trace) -> TraceSummary:
        read.append(trace)
        return summary(trace)

    monkeypatch.setattr(Trace, "summary", counted)
    case = Case("trace", path, trace_digest=known_trace(path).digest)
    assert build(case, MODELS).requests[0].times_s.size
    assert len(read) == 1

    write_trace(tmp_path / "trace.csv", 600.0, 2.0)
    with pytest.raises(InputError, match=r"trace\.csv: is not the file that the backtest began"):
        build(case, MODELS)
    assert known_trace(path).digest != case.trace_digest
    assert len(read) == 2


def test_what_cannot_be_built_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnknownPluginError, match="unknown workload 'lunar': known are diurnal"):
        build(Case("lunar"), MODELS)
    with pytest.raises(InputError, match=r"short\.csv: lasts 59 s; half of it is judged"):
        build(Case("trace", write_trace(tmp_path / "short.csv", 60.0, 1.0)), MODELS)
    with pytest.raises(UnknownPluginError, match="'os:getcwd' cannot be built: TypeError"):
        build(Case("os:getcwd"), MODELS)
    (tmp_path / "empty.csv").write_text("time,input_tokens,output_tokens\n")
    with pytest.raises(InputError, match="is empty"):
        build(Case("trace", str(tmp_path / "empty.csv")), MODELS)
