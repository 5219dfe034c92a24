"""Each setting, and what it changes of what a daemon asks, decides, writes or says."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from controlloop.api.decision import Action, Decision
from controlloop.api.report import CycleReport
from controlloop.api.system import OptimizerOptions
from controlloop.collector.unstarted import Patience
from controlloop.composition.configuration import load_settings
from controlloop.errors import ControlLoopError, UnknownPluginError
from controlloop.optimizer.milp import MilpSolver
from controlloop.stability.options import Direction, Panic, Steps, WindowOptions

pytestmark = pytest.mark.slow


def decision(report: CycleReport) -> Decision:
    assert report.failure is None, report.failure
    assert report.decisions is not None
    return report.decisions.decisions[0]


def held(report: CycleReport) -> set[str]:
    return {str(hold.reason) for hold in decision(report).holds}


def test_by_default_a_server_that_needs_one_replica_gets_it(stand: Any) -> None:
    assert decision(stand.cycle()).action is Action.SCALE_DOWN
    (patch,) = stand.of("PATCH", "/namespaces/llm/deployments/chat0")
    assert patch.body["spec"] == {"replicas": 1}


# --- cycle, data, cluster


def test_cycle(stand: Any) -> None:
    stand.cycle(cycle__deadline_s=2)
    assert all(one.timeout_ms <= 2000 for one in stand.of("GET", "/apis"))
    on_demand = stand.runner({"cycle.period_s": 0})
    on_demand._schedule()
    assert on_demand._scheduler.get_jobs() == []
    on_demand._scheduler.shutdown()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_data(stand: Any, mode: str) -> None:
    shutil.copytree(stand.root / "config" / "data", stand.folder / "mine")
    runner = stand.runner({"data.directory": "mine", "data.mode": mode})
    assert runner.run_once().failure is None
    (stand.folder / "mine" / "capacity-data.json").write_text("{")
    assert runner.run_once().failure is None
    assert runner._service.ready().ok is (mode == "static")


def test_data_from_custom_resources(stand: Any) -> None:
    def thing(object_name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": object_name, "namespace": "gpus"}, "spec": spec}

    stand.custom = {
        "accelerators": [thing("a100", name="A100", type="A100", cost=1)],
        "capacities": [thing("all", count=[{"type": "A100", "count": 5}])],
        "models": [],
        "serviceclasses": [],
        "servers": [],
        "optimizers": [thing("main"), thing("other")],
    }
    settings = {"data__source": "crds", "data__namespace": "gpus"}
    report = stand.cycle(**settings, data__optimizer="main")
    assert report.capacity == {"A100": 5}
    assert stand.of("GET", "/apis/inferno.platform.ai/v1alpha1/namespaces/gpus/accelerators")
    unsure = stand.cycle(**settings).failure
    assert unsure is not None
    assert "there must be exactly one, got main, other" in unsure.message


def test_cluster(stand: Any) -> None:
    stand.cycle(cluster__namespaces=["llm"], cluster__request_timeout_s=3, cluster__page_size=7)
    lists = [one for one in stand.of("GET", "/") if "limit" in one.query]
    assert {one.query["limit"] for one in lists} == {"7"}
    assert all("/namespaces/llm/" in one.path for one in lists)
    assert 2000 < max(one.timeout_ms for one in lists) <= 3000


def test_scale_targets(stand: Any) -> None:
    kinds = {"StatefulSet": "apps/v1/statefulsets"}
    stand.cycle(cluster__namespaces=["llm"], cluster__scale_targets=kinds)
    (asked,) = stand.of("GET", "/apis/apps/v1/namespaces/llm/statefulsets")
    assert asked.query["labelSelector"] == "inferno.server.managed=true"


@pytest.mark.parametrize("watch", [False, True])
def test_what_was_listed_is_followed_by_watches(stand: Any, watch: bool) -> None:
    runner = stand.runner({"cluster.watch": watch})
    runner.run_once()
    pods = "/api/v1/pods"

    def watches() -> list[Any]:
        return [one for one in stand.of("GET", pods) if "watch" in one.query]

    waiting = threading.Event()
    for _ in range(200 if watch else 1):
        if watches():
            break
        waiting.wait(0.01)
    assert bool(watches()) is watch


# --- capacity


@pytest.mark.parametrize(
    ("settings", "cards"),
    [
        ({"source": "file"}, {"L4": 16, "L40S": 48, "A100": 32, "H100": 16}),
        ({"source": "elastic", "maximum": {"A100": 3}}, {"A100": 3}),
        ({"source": "nodes"}, {"X": 8}),
        ({"source": "nodes", "accelerator_types": {"NVIDIA-X": "A100"}}, {"A100": 8}),
        ({"source": "nodes", "tolerated_taints": ["spot"]}, {"X": 16}),
    ],
)
def test_capacity(stand: Any, settings: dict[str, Any], cards: dict[str, int]) -> None:
    report = stand.cycle(**{f"capacity__{key}": it for key, it in settings.items()})
    assert dict(report.capacity) == cards


def test_capacity_that_pods_wait_for(stand: Any) -> None:
    stand.unplaced = True
    report = stand.cycle(capacity__unplaced_after_s=60)
    assert "unplaced" in held(report)
    assert report.capacity["A100"] == 31
    report = stand.cycle(capacity__unplaced_after_s=0)
    assert "unplaced" not in held(report)
    assert report.capacity["A100"] == 32


# --- prometheus, collector, gateway


def test_prometheus(stand: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    assert decision(stand.cycle()).desired.load.rate_rps == pytest.approx(1.1)
    assert stand.queries == []
    measured = stand.measured(prometheus__timeout_s=3, prometheus__token_file=str(secret))
    assert decision(measured).desired.load.rate_rps == pytest.approx(2.2)
    asked = stand.of("GET", "/api/v1/query")
    assert {one.authorization for one in asked} == {"Bearer s3cret"}
    assert all(2 < float(one.query["timeout"]) <= 3 for one in asked)
    stand.asked.clear()
    stand.measured(prometheus__username="me", prometheus__password_file=str(secret))
    basic = "Basic " + base64.b64encode(b"me:s3cret").decode()
    assert {one.authorization for one in stand.of("GET", "/api/v1/query")} == {basic}
    problem = stand.measured(prometheus__ca_file=str(tmp_path / "no-ca")).observation
    assert "no-ca" in problem.metrics_problem


def test_collector_asks_as_told(stand: Any) -> None:
    stand.measured(
        collector__window_s=50, collector__matchers='job="a"', collector__metrics_timeout_s=4
    )
    assert all('job="a"' in query and query.endswith("[50000ms]") for query in stand.queries)
    asked = stand.of("GET", "/api/v1/query")
    assert all(float(one.query["timeout"]) <= 4 for one in asked)
    with pytest.raises(UnknownPluginError, match="klingon"):
        stand.measured(collector__dialects=["klingon"])


def test_collector_finds_its_series_by_the_labels_told(stand: Any) -> None:
    stand.series_labels = ("ns", "pod_name")
    assert "inert" in held(stand.measured())
    told = stand.measured(collector__namespace_label="ns", collector__pod_label="pod_name")
    assert decision(told).desired.load.rate_rps == pytest.approx(2.2)


def test_collector_says_when_a_sample_is_too_old(stand: Any) -> None:
    stand.sample_age_s = 12.0
    assert "signal-stale" not in held(stand.measured())
    assert "signal-stale" in held(stand.measured(collector__stale_after_s=10))


def test_collector_says_which_pods_do_not_start(stand: Any) -> None:
    stand.started_ago_s = 100.0
    assert "growth-not-ready" in held(stand.cycle(collector__startup_s=60))
    assert "growth-not-ready" not in held(stand.cycle(collector__startup_s=200))
    assert "growth-not-ready" not in held(stand.cycle(collector__startup_s=0))
    runner = stand.runner({"collector.startup_s": 50, "collector.startup_factor": 4})
    sensor = runner._service._cycle._parts.sensor._sensor
    assert sensor._options.patience == Patience(50.0, 4.0)


def test_gateway(stand: Any) -> None:
    told = {"gateway__selector": "gateway_total", "gateway__server_label": "route"}
    report = stand.measured(**told, gateway__namespace_label="space")
    assert decision(report).desired.load.rate_rps == pytest.approx(3.3)
    assert "gateway_total[60000ms]" in stand.queries
    # The Deployment is found by name and namespace; where the label of one is wrong, by the name
    # of the server, which is another here.
    stand.labels = {"name": "another"}
    found = stand.measured(**told, gateway__namespace_label="space")
    assert decision(found).desired.load.rate_rps == pytest.approx(3.3)
    lost = stand.measured(**told, gateway__namespace_label="wrong")
    assert decision(lost).desired.load.rate_rps == pytest.approx(2.2)


# --- optimizer, estimator, forecaster, stability


def test_optimizer(stand: Any) -> None:
    assert stand.cycle().decisions.solution.solver == "greedy"
    assert stand.cycle(optimizer__solver="unlimited").decisions.solution.solver == "unlimited"
    usual, other = stand.cycle(), stand.cycle(optimizer__queue_model="mm1k")
    assert decision(other).desired.itl_ms > 1.5 * decision(usual).desired.itl_ms
    stand.waiting = 120.0
    assert "with 240.0 req/min to drain" in decision(stand.measured()).reason
    assert "to drain" not in decision(stand.measured(optimizer__drain_time_s=0)).reason


def test_optimizer_time_limit_and_gap(stand: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float | None, float | None]] = []
    solve = MilpSolver.solve

    def noting(self: Any, candidates: Any, capacity: Any, options: OptimizerOptions) -> Any:
        asked.append((options.time_limit_s, options.gap))
        return solve(self, candidates, capacity, options)

    monkeypatch.setattr(MilpSolver, "solve", noting)
    stand.cycle(optimizer__solver="milp")
    stand.cycle(optimizer__solver="milp", optimizer__time_limit_s=3, optimizer__gap=0.01)
    assert asked == [(10.0, 0.0), (3.0, 0.01)]


@pytest.mark.parametrize("setting", ["estimator", "forecaster", "stability"])
def test_plug_ins_are_taken_by_name(stand: Any, setting: str) -> None:
    with pytest.raises(UnknownPluginError, match="nobody"):
        stand.cycle(**{f"{setting}__name": "nobody"})


def test_estimator_confidence(stand: Any) -> None:
    models = stand.root / "config" / "data" / "model-data.json"
    folder = stand.folder / "unsure"
    shutil.copytree(models.parent, folder)
    data = json.loads(models.read_text())
    for entry in data["models"]:
        entry["logCovariance"] = [[0.5 * (row == at) for at in range(4)] for row in range(4)]
    (folder / "model-data.json").write_text(json.dumps(data))
    usual = stand.cycle(data__directory="unsure").decisions.solution
    careful = stand.cycle(data__directory="unsure", estimator__confidence=0.95).decisions.solution
    # Nothing that the parameters may be is surely good enough: it says with what confidence.
    assert not usual.unserved
    assert "with confidence 0.95" in careful.unserved[0].detail
    with pytest.raises(ControlLoopError, match=r"estimator\.confidence"):
        stand.cycle(estimator__confidence=0.3)


def test_estimator(stand: Any) -> None:
    state = stand.folder / "learned.json"
    report = stand.cycle(estimator__name="ekf", estimator__state_file=str(state))
    assert report.succeeded
    assert state.exists()
    kept = {"estimator__name": "ekf", "estimator__state_config_map": "ns/learned"}
    assert stand.cycle(**kept).succeeded
    (written,) = stand.of("POST", "/namespaces/ns/configmaps")
    assert written.body["metadata"]["name"] == "learned"
    assert stand.cycle(**kept, actuator__mode="dry-run").succeeded
    assert len(stand.of("POST", "/namespaces/ns/configmaps")) == 1
    told = {
        "name": "ekf",
        "mode": "apply",
        "min_requests": 7,
        "noise_floor": 0.04,
        "gate_probability": 0.99,
        "speed_doubt": 0.8,
        "parameter_doubt": 0.4,
    }
    settings = {f"estimator__{name}".replace("__", "."): value for name, value in told.items()}
    runner = stand.runner(settings)
    options = runner._service._cycle._parts.estimator._options
    assert options.apply
    assert options.tuning.rules.min_requests == 7
    assert options.tuning.noise.floor == 0.04
    assert options.tuning.gate == 0.99
    assert (options.tuning.doubt.common, options.tuning.doubt.own) == (0.8, 0.4)


def test_forecaster(stand: Any) -> None:
    report = stand.cycle(forecaster__headroom=0.5)
    assert decision(report).desired.load.rate_rps == pytest.approx(1.5)
    ahead = stand.cycle(forecaster__startup_s=300, cycle__period_s=30)
    assert ahead.forecast.predictions["chat0"].horizon_s == 330
    told = {"predictors": ["holt"], "quantile": 0.8, "window": 200, "budget_s": 0.7}
    settings = {f"forecaster__{name}".replace("__", "."): it for name, it in told.items()}
    forecaster = stand.runner(settings)._service._cycle._parts.forecaster._forecaster
    assert forecaster.rates.names == ("last-value", "holt", "ensemble")
    assert forecaster._options.quantile == 0.8
    assert forecaster.rates._tracker._memory == pytest.approx(1 - 1 / 200)
    assert forecaster.rates._predictors[0]._worker._budget_s == 0.7
    kept = stand.folder / "seen.state"
    stand.cycle(forecaster__state_file=str(kept))
    assert kept.exists()
    stand.cycle(forecaster__state_config_map="ns/seen")
    (written,) = stand.of("POST", "/ns/configmaps")
    assert written.body["metadata"]["name"] == "seen"
    stand.measured(forecaster__warm_s=86400)
    spans = [one.query for one in stand.of("GET", "/api/v1/query_range")]
    assert {float(one["end"]) - float(one["start"]) for one in spans} == {118 * 15.0, 95 * 900.0}
    stand.asked.clear()
    stand.measured(forecaster__warm_s=0)
    assert stand.of("GET", "/api/v1/query_range") == []
    with pytest.raises(UnknownPluginError, match="crystal-ball"):
        stand.cycle(forecaster__predictors=["crystal-ball"])


def test_stability(stand: Any) -> None:
    assert decision(stand.cycle(stability__min_replicas=2)).desired.replicas == 2
    assert "warming-up" in held(stand.cycle(stability__down_window_s=300))
    stand.rpm = 60000.0
    stand.replicas = 1
    assert decision(stand.cycle(stability__max_replicas=3)).desired.replicas == 3
    kept = stand.folder / "windows.json"
    stand.cycle(stability__state_file=str(kept))
    assert "chat0" in kept.read_text()


def test_stability_windows(stand: Any) -> None:
    told = {
        "down_window_s": 200.0,
        "up_window_s": 30.0,
        "down_tolerance": 0.2,
        "up_tolerance": 0.05,
        "down_step_replicas": 2,
        "down_step_share": 0.3,
        "up_step_replicas": 4,
        "up_step_share": 0.5,
        "step_period_s": 90.0,
        "down_cooldown_s": 240.0,
        "up_cooldown_s": 15.0,
        "startup_guard_s": 700.0,
        "flap_reversals": 3,
        "flap_window_s": 1800.0,
        "panic_ratio": 3.0,
        "panic_waiting": 2.0,
        "panic_utilization": 0.9,
        "panic_step_share": 0.1,
    }
    runner = stand.runner({f"stability__{key}".replace("__", "."): it for key, it in told.items()})
    assert runner._service._cycle._parts.policy._options == WindowOptions(
        up=Direction(30.0, 0.05, Steps(4, 0.5, 90.0), 15.0),
        down=Direction(200.0, 0.2, Steps(2, 0.3, 90.0), 240.0),
        startup_guard_s=700.0,
        flap_reversals=3,
        flap_window_s=1800.0,
        panic=Panic(ratio=3.0, waiting=2.0, utilization=0.9, step_share=0.1),
    )


def test_stability_windows_hold_back(stand: Any) -> None:
    """One replica is enough of the four that run, or of so many that a single one is not."""
    assert decision(stand.cycle(stability__down_step_replicas=1)).desired.replicas == 3
    assert decision(stand.cycle(stability__name="bounds")).desired.replicas == 1
    stand.rpm, stand.replicas = 6000.0, 1
    grown = decision(stand.cycle()).desired.replicas
    calm = {"stability__panic_ratio": 0, "stability__up_step_replicas": 1}
    assert grown > 2
    assert decision(stand.cycle(**calm)).desired.replicas == 2
    assert "up-window" in held(stand.cycle(stability__panic_ratio=0, stability__up_window_s=60))


def test_no_setting_is_left_out(root: Path) -> None:
    here = Path(__file__).parent
    files = (here / "conftest.py", *sorted(here.glob("test_settings_effects*.py")))
    text = "".join(file.read_text() for file in files)
    for section, below in load_settings(root / "config", {}).model_dump().items():
        for name in below:
            listed = f"{section}__{{" in text and f'"{name}"' in text
            spelt = f"{section}__{name}" in text or f"{section}.{name}" in text
            assert listed or spelt or f"{{setting}}__{name}" in text, f"{section}.{name}"
