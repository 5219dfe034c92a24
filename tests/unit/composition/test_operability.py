"""`doctor` and `status` against a server that can be made to lack what the loop needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from controlloop.cli.app import app
from controlloop.composition.cluster import ClusterChoice
from controlloop.composition.configuration import load_settings
from controlloop.composition.doctor import build_doctor
from controlloop.daemon.doctor import Finding, Level
from controlloop.errors import InputError


def examine(stand: Any, **settings: object) -> dict[str, Finding]:
    """Findings worse than OK by subject; the last one of each."""
    kubeconfig = stand.folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(stand._kubeconfig()))
    given = {key.replace("__", "."): it for key, it in settings.items()}
    usual = {"data.directory": str(stand.root / "config" / "data")}
    read = load_settings(stand.folder, usual | given)
    doctor = build_doctor(read, stand.folder, ClusterChoice(kubeconfig))
    return {each.subject: each for each in doctor.examine() if each.level is not Level.OK}


def test_a_fleet_that_lacks_nothing_has_no_findings(stand: Any) -> None:
    assert examine(stand, prometheus__url=stand.url) == {}


def test_each_right_that_lacks_is_named_with_what_becomes_of_the_loop(stand: Any) -> None:
    stand.denied = ("patch deployments",)
    found = examine(stand, prometheus__url=stand.url)["permissions"]
    assert found.level is Level.PROBLEM
    assert found.found == (
        "may not patch deployments in all namespaces: no decision can be made real"
    )
    stand.denied = ("list scaledobjects",)
    assert examine(stand, prometheus__url=stand.url)["permissions"].level is Level.WARNING
    # What is not used is not asked for.
    stand.denied = ("update leases", "create leases", "list nodes", "patch deployments")
    dry = {"actuator__mode": "dry-run", "capacity__source": "file"}
    assert examine(stand, prometheus__url=stand.url, **dry) == {}


def test_an_inert_server_is_named_with_the_query_that_came_back_empty(stand: Any) -> None:
    stand.series_labels = ("namespace", "instance")
    found = examine(stand, prometheus__url=stand.url)["chat0"]
    assert found.level is Level.PROBLEM
    assert "inert" in found.found
    assert 'asked: {__name__=~"vllm:request_success_total' in found.found
    assert "scrapes its pods" in found.advice


def test_one_signal_that_is_missing_is_named(stand: Any) -> None:
    stand.silent = ("num_requests_waiting",)
    found = examine(stand, prometheus__url=stand.url)["chat0"]
    assert found.level is Level.WARNING
    assert found.found.startswith("no waiting requests: ")
    assert "vllm:num_requests_waiting" in found.found


def test_bad_labels_are_told_with_what_to_do(stand: Any) -> None:
    stand.labels = {"minreplicas": "many"}
    found = examine(stand, prometheus__url=stand.url)["chat0"]
    assert "labels-invalid" in found.found
    assert "many" in found.found
    assert found.advice == "mend the label or annotation"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("model", "unknown-model"),
        ("class", "unknown-class"),
        ("allocation.accelerator", "unknown-accelerator"),
    ],
)
def test_names_that_the_data_does_not_know_are_told(stand: Any, label: str, reason: str) -> None:
    stand.labels = {label: "nobody-knows"}
    found = examine(stand, prometheus__url=stand.url)["chat0"]
    assert found.level is Level.WARNING
    assert found.found.startswith(f"{reason}: ")
    assert "nobody-knows" in found.found


def test_bad_data_is_told_and_the_rest_examined(stand: Any) -> None:
    (stand.folder / "data").mkdir()
    found = examine(stand, prometheus__url=stand.url, data__directory="data")
    assert found["data"].level is Level.PROBLEM
    assert "does not exist" in found["data"].found


@pytest.mark.parametrize(("replicas", "advice"), [(0, "scale it up"), (4, "see why none is made")])
def test_a_server_without_pods_is_no_fault_of_the_metric_source(
    stand: Any, replicas: int, advice: str
) -> None:
    stand.replicas, stand.pods = replicas, False
    found = examine(stand, prometheus__url=stand.url)["chat0"]
    assert found.level is Level.WARNING
    assert found.found.startswith(f"has no pods of the {replicas} it asks for")
    assert advice in found.advice


def test_pods_that_find_no_node_are_told_with_what_to_do(stand: Any) -> None:
    stand.unplaced = True
    found = examine(stand)["chat0"]
    assert found.found.startswith("unplaced: 1 of 4 pods find no node")
    assert found.advice.startswith("add nodes")


def test_clocks_that_differ_are_told(stand: Any) -> None:
    stand.clock_off_s = -20.0
    found = examine(stand, prometheus__url=stand.url)["clock"]
    assert found.found in ("the API server's is 20 s behind", "the API server's is 21 s behind")


def test_prometheus_that_is_gone_and_no_prometheus_at_all(stand: Any) -> None:
    gone = examine(stand, prometheus__url="http://127.0.0.1:9")["metrics"]
    assert gone.level is Level.PROBLEM
    assert "cannot be reached" in gone.found
    assert examine(stand)["metrics"].level is Level.WARNING


def test_an_api_server_that_is_silent_ends_it(stand: Any) -> None:
    stand.port, port = 9, stand.port
    found = examine(stand)
    stand.port = port
    assert list(found) == ["API server"]
    assert found["API server"].level is Level.PROBLEM


def run(stand: Any, *arguments: str) -> Any:
    kubeconfig = stand.folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(stand._kubeconfig()))
    usual = [f"--config={stand.folder}", f"--kubeconfig={kubeconfig}"]
    sets = ["--set", f"data.directory={stand.root / 'config' / 'data'}"]
    sets += ["--set", f"prometheus.url={stand.url}"]
    return CliRunner().invoke(app, [*arguments, *usual, *sets])


def test_the_commands_exit_code_says_whether_the_loop_works(stand: Any) -> None:
    good = run(stand, "doctor")
    assert good.exit_code == 0, good.output
    assert "every server shows every signal" in good.stdout
    stand.denied = ("list pods",)
    bad = run(stand, "doctor", "--format", "json")
    assert bad.exit_code == 1
    problem = next(one for one in json.loads(bad.stdout) if one["level"] == "problem")
    assert problem["advice"] == "grant it, as the roles in deploy/ do"


def test_status_shows_every_server_and_writes_nothing(stand: Any) -> None:
    answer = run(stand, "status")
    assert answer.exit_code == 0, answer.output
    row = next(line for line in answer.stdout.splitlines() if "chat0" in line)
    # 2 requests/s; seconds as its engine shows them; one that holds keeps its four
    # replicas, of which this server says that none is ready.
    assert row.split()[:7] == ["chat0", "A100", "4", "0", "120", "1,000", "/"]
    assert "hold: warming-up" in row
    assert not stand.of("PATCH", "/")
    assert not stand.of("POST", "/")


def test_a_change_that_is_not_made_is_told_and_is_no_success(stand: Any) -> None:
    quick = ["--set=lease.enabled=false", "--set=stability.down_window_s=0"]
    quick += ["--set=forecaster.warm_s=0", "--set=log.level=error"]
    good = run(stand, "run", "--once", *quick)
    assert good.exit_code == 0, good.output
    assert "scale-down" in good.stdout
    stand.refuses_patches = True
    bad = run(stand, "run", "--once", *quick)
    assert bad.exit_code == 1
    assert "chat0: failed: " in bad.stderr
    assert "may not patch" in bad.stderr
    assert run(stand, "run", "--once", "--dry-run", *quick).exit_code == 0


def test_what_is_not_known_is_nowhere_shown_as_zero(stand: Any) -> None:
    stand.series_labels = ("namespace", "instance")
    row = next(
        line for line in run(stand, "status").stdout.splitlines() if line.startswith(" chat0")
    )
    assert row.split()[:11] == ["chat0", "A100", "4", "0", "?", "?", "/", "?", "?", "/", "?"]
    daemon = stand.runner({"prometheus.url": stand.url})
    daemon.run_once()
    registry = daemon._service.metrics.registry
    server = {"server": "chat0"}
    assert registry.get_sample_value("controlloop_server_arrival_rate_rps", server) is None
    current = server | {"which": "current"}
    assert registry.get_sample_value("controlloop_server_replicas", current) == 4


def test_a_cluster_without_managed_deployments_says_so(stand: Any) -> None:
    stand.servers = 0
    answer = run(stand, "run", "--once", "--dry-run")
    assert answer.exit_code == 0
    assert "no managed Deployment was found" in answer.stderr


def test_a_look_reads_what_a_daemon_keeps_and_writes_none_of_it(stand: Any) -> None:
    keeps = {
        "stability.state_file": "windows.json",
        "forecaster.state_file": "history.bin",
        "estimator.state_file": "learned.json",
        "recording.file": "cycles.jsonl",
        "report.file": "reports.jsonl",
    }
    paths = {setting: str(stand.folder / name) for setting, name in keeps.items()}
    paths |= {"estimator.name": "ekf"}
    stand.measured(**{setting.replace(".", "__"): path for setting, path in paths.items()})
    before = {each.name: each.read_bytes() for each in stand.folder.iterdir() if each.is_file()}
    assert before.keys() >= set(keeps.values())
    sets = [f"--set={setting}={path}" for setting, path in paths.items()]
    answer = run(stand, "status", "--format", "json", *sets)
    assert answer.exit_code == 0, answer.output
    after = {each.name: each.read_bytes() for each in stand.folder.iterdir() if each.is_file()}
    assert after == before


def test_bad_data_ends_a_start_with_every_problem(stand: Any) -> None:
    data = Path(shutil.copytree(stand.root / "config" / "data", stand.folder / "data"))
    (data / "model-data.json").write_text("{")
    (data / "capacity-data.json").write_text('{"count": [{"type": "A", "count": -1}]}')
    with pytest.raises(InputError) as caught:
        stand.runner({"data.directory": str(data)})
    assert len(caught.value.problems) == 2
    assert not stand.asked


@pytest.mark.parametrize("output", ["table", "json"])
def test_status_of_a_daemon_is_its_last_report(stand: Any, output: str) -> None:
    daemon = stand.runner({"http.port": 0, "http.host": "127.0.0.1"})
    endpoints = daemon._endpoints
    endpoints.start()
    try:
        url = f"http://127.0.0.1:{endpoints.port}"
        none_yet = CliRunner().invoke(app, ["status", "--url", url])
        assert "no cycle yet" in str(none_yet.exception)
        daemon.run_once()
        answer = CliRunner().invoke(app, ["status", "--url", url, "--format", output])
        assert answer.exit_code == 0, answer.output
        assert "chat0" in answer.stdout
    finally:
        endpoints.stop()
