from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controlloop.cli.app import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The shipped configuration, to be spoilt."""
    shipped = Path(__file__).resolve().parents[3] / "config"
    return shutil.copytree(shipped, tmp_path / "config")


def check(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", str(config), *arguments])


def test_the_shipped_configuration_is_good(config: Path) -> None:
    done = check(config, "--format", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["ok"]


@pytest.mark.parametrize(
    ("text", "setting", "words"),
    [
        ("prometheus: {url: 'ftp://x'}", "prometheus.url", "http://host:port"),
        ("collector: {dialects: [x]}", "collector.dialects", "known: vllm"),
        ("optimizer: {solver: x}", "optimizer.solver", "known are"),
        ("optimizer: {solver: 'os:system'}", "optimizer.solver", "cannot be built"),
        ("optimizer: {queue_model: 'os:system'}", "optimizer.queue_model", "cannot be built"),
        ("estimator: {name: x}", "estimator.name", "known are"),
        ("forecaster: {name: x}", "forecaster.name", "known are"),
        ("stability: {name: x}", "stability.name", "known are"),
    ],
)
def test_what_the_daemon_would_refuse_is_not_good(
    config: Path, text: str, setting: str, words: str
) -> None:
    (config / "settings.yaml").write_text(text)
    done = check(config, "--format", "json")
    assert done.exit_code == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["path"] == setting
    assert words in problem["rule"]


def test_every_kind_of_problem_is_found_at_once(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "settings.yaml").write_text(
        "cycle: {period_s: -1}\ncapacity: {source: elastic}\noptimizer: {solver: x}\n"
        "prometheus: {url: 'ftp://x', timeout_s: 0}\n"
    )
    monkeypatch.setenv("CONTROLLOOP_HTTP_PROT", "1")
    (config / "data" / "capacity-data.json").write_text("{")
    found = json.loads(check(config, "--format", "json").stdout)["problems"]
    # Of a section with a bad value nothing is tried: its address is not asked about.
    assert [each["path"] for each in found] == [
        "cycle.period_s",
        "prometheus.timeout_s",
        "capacity.maximum",
        "CONTROLLOOP_HTTP_PROT",
        "optimizer.solver",
        "line 1, column 2",
    ]


def test_data_from_custom_resources_needs_no_files(config: Path) -> None:
    (config / "settings.yaml").write_text("data: {source: crds}")
    shutil.rmtree(config / "data")
    done = check(config)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "good\n"


def test_problems_of_settings_and_data_are_found_at_once(config: Path) -> None:
    (config / "settings.yaml").write_text("cycle: {period_s: .nan}")
    (config / "data" / "capacity-data.json").write_text('{"count": [{"type": "A", "count": -1}]}')
    done = check(config)
    assert done.exit_code == 2
    assert "cycle.period_s: must be a finite number, got NaN" in done.stderr
    assert "count[0].count: must be >= 0, got -1" in done.stderr
    assert done.stdout.endswith("bad\n")


def test_a_folder_that_cannot_even_be_looked_at_is_told() -> None:
    result = check(Path("x" * 300))
    assert result.exit_code == 2
    assert "is not a folder with settings.yaml" in result.stderr
