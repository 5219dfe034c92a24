"""Alerts and dashboard: every query is one, over metrics that exist, and each alert fires."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlloop.telemetry import Metrics

ADDED_BY_SCRAPES = {"namespace", "pod", "instance", "job", "le"}
OURS = re.compile(r"\bcontrolloop_\w+")
FOLDER = Path("deploy/overlays/monitoring")

# What makes each alert fire, within 50 minutes, and what its annotations then say.
FIRES: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    "ControlloopNoLeader": ({'controlloop_leader{pod="a"}': "0x60"}, {}),
    "ControlloopTwoLeaders": (
        {'controlloop_leader{pod="a"}': "1x60", 'controlloop_leader{pod="b"}': "1x60"},
        {},
    ),
    "ControlloopStale": ({'controlloop_last_cycle_timestamp_seconds{pod="a"}': "600x60"}, {}),
    "ControlloopCyclesFail": (
        {'controlloop_cycle_failures_total{stage="observe",error="ClusterError"}': "0+1x60"},
        {"stage": "observe", "error": "ClusterError"},
    ),
    "ControlloopNoMetrics": ({'controlloop_metric_source_problem{pod="a"}': "1x60"}, {}),
    "ControlloopBadData": ({'controlloop_data_problem{pod="a"}': "1x60"}, {}),
    "ControlloopStateNotKept": ({'controlloop_trouble{kind="state-not-kept"}': "1x60"}, {}),
    "ControlloopPatchesFail": ({'controlloop_patches_total{status="failed"}': "0+1x60"}, {}),
    "ControlloopShortOfCapacity": (
        {'controlloop_holds{reason="no-capacity",forbids="change"}': "3x60"},
        {"$value": "3"},
    ),
    "ControlloopInert": ({'controlloop_holds{reason="inert",forbids="decrease"}': "2x60"}, {}),
    "ControlloopDoubtsParameters": (
        {'controlloop_tuner_trust{model="m",accelerator="a",trust="doubtful"}': "1x60"},
        {"$value": "1"},
    ),
}
CALM = {
    'controlloop_leader{pod="a"}': "1x60",
    'controlloop_leader{pod="b"}': "0x60",
    'controlloop_last_cycle_timestamp_seconds{pod="a"}': "0+60x60",
    'controlloop_last_cycle_timestamp_seconds{pod="b"}': "0x60",
    'controlloop_metric_source_problem{pod="a"}': "0x60",
    'controlloop_data_problem{pod="a"}': "0x60",
    'controlloop_trouble{kind="state-not-kept"}': "0x60",
    'controlloop_holds{reason="at-minimum",forbids="decrease"}': "3x60",
    'controlloop_patches_total{status="applied"}': "0+2x60",
    'controlloop_tuner_trust{model="m",accelerator="a",trust="trusted"}': "1x60",
}


@pytest.fixture(scope="module")
def promtool(programs: Mapping[str, Path]) -> Path:
    return programs["promtool"]


@pytest.fixture(scope="module")
def rules(root: Path) -> Any:
    return yaml.safe_load((root / FOLDER / "alerts.yaml").read_text())["spec"]


def alerts(rules: Any) -> dict[str, Any]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}


def known_metrics() -> set[str]:
    """The names under which the daemon's metrics are scraped."""
    suffixes = {"histogram": ("_sum", "_count", "_bucket"), "counter": ("_total",)}
    return {
        f"{metric.name}{suffix}"
        for metric in Metrics().registry.collect()
        for suffix in suffixes.get(metric.type, ("",))
    }


def known_labels() -> set[str]:
    return {label for one in Metrics().every for label in one._labelnames}


def labels_of(query: str) -> set[str]:
    """The labels that a query selects or groups by."""
    grouped = re.findall(r"\b(?:by|without) \(([^)]*)\)", query)
    named = {one.strip() for group in grouped for one in group.split(",") if one.strip()}
    return named | set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', query))


def queries(root: Path, rules: Any) -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts(rules).values())
    dashboard = json.loads((root / FOLDER / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_every_query_is_promql_over_metrics_that_the_daemon_serves(
    root: Path, rules: Any, promtool: Path
) -> None:
    known = known_metrics()
    asked = list(queries(root, rules))
    assert len(asked) > 20
    for query in asked:
        names = OURS.findall(query)
        assert names
        assert set(names) <= known, query
        assert labels_of(query) <= ADDED_BY_SCRAPES | known_labels(), query
        subprocess.run(
            [promtool, "--experimental", "promql", "format", query.replace("$server", ".*")],
            check=True,
            capture_output=True,
        )


def test_each_alert_fires_on_what_it_is_for_and_stays_quiet_otherwise(
    rules: Any, promtool: Path, tmp_path: Path
) -> None:
    assert set(FIRES) == set(alerts(rules))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    calm = {
        "name": "calm",
        "interval": "1m",
        "input_series": [{"series": name, "values": each} for name, each in CALM.items()],
        "alert_rule_test": [
            {"eval_time": "50m", "alertname": name, "exp_alerts": []} for name in FIRES
        ],
    }
    cases = [calm, *(_fires(name, rule) for name, rule in alerts(rules).items())]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "tests.yaml"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _fires(name: str, rule: Any) -> dict[str, Any]:
    series, said = FIRES[name]
    labels = {key: value for key, value in said.items() if not key.startswith("$")}
    annotations = {}
    for key, template in rule["annotations"].items():
        annotations[key] = template
        for word, value in said.items():
            place = word if word.startswith("$") else f"$labels.{word}"
            annotations[key] = annotations[key].replace(f"{{{{ {place} }}}}", value)
    alert = {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": annotations}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "alert_rule_test": [{"eval_time": "50m", "alertname": name, "exp_alerts": [alert]}],
    }
