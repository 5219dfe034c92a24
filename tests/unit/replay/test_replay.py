from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controlloop.api.observation import Observation
from controlloop.api.plain_values import from_plain, to_plain
from controlloop.api.readings import Missing, Present, Stale
from controlloop.api.report import Stage
from controlloop.api.system import System
from controlloop.cli.app import app
from controlloop.clock import ManualClock, SystemClock
from controlloop.composition.loop import demo_engine, loop_builder, replay_builder
from controlloop.composition.parts import build_planner
from controlloop.composition.recording import (
    ESTIMATOR,
    POLICY,
    daemon_cycle,
    recorded_stores,
    replayed_settings,
)
from controlloop.cycle import Cycle, Parts
from controlloop.errors import InputError, Problem, SettingsError
from controlloop.replay.document import Header, header_line
from controlloop.replay.reader import Recording
from controlloop.replay.recording import RecordingCycle
from controlloop.replay.rerun import Replayed, rerun
from controlloop.settings.file import read_settings
from controlloop.settings.tree import Settings
from controlloop.simulator.demo import Demo, DemoOptions
from controlloop.simulator.fleet import read_fleet
from controlloop.tuner.state_file import FileStateStore

pytestmark = pytest.mark.slow

CYCLES = 30


def record(file: Path, **settings: object) -> Settings:
    """Half an hour of the demo's fleet, recorded as the daemon does."""
    given = {key.replace("__", "."): value for key, value in settings.items()}
    chosen = read_settings("", "", {"recording.file": str(file), **given})
    engine = demo_engine(chosen)
    learned = chosen.estimator.state_file
    stores = recorded_stores(
        chosen, {ESTIMATOR: FileStateStore(Path(learned)) if learned else None, POLICY: None}
    )
    kept = {name: store for name, store in stores.items() if store is not None}
    builder = loop_builder(chosen, build_planner(chosen, SystemClock()), kept)

    def build(source: Any, sensor: Any, actuator: Any, clock: Any) -> Cycle:
        plain = builder(source, sensor, actuator, clock)
        return daemon_cycle(chosen, plain._parts, clock, stores)

    recorded = replace(engine, build_loop=build)
    Demo(read_fleet(), DemoOptions(hours=CYCLES / 60, seed=4), recorded).run()
    return chosen


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recording") / "cycles.jsonl"
    record(file)
    return file


def replayed(file: Path, **overrides: object) -> Replayed:
    tape = Recording(file)
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    settings = replayed_settings(tape.header, given)
    return rerun(tape.cycles(), replay_builder(settings, tape.header.state))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controlloop", "replay", *arguments],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def edited(file: Path, target: Path, change: Callable[[list[str]], list[str]]) -> Path:
    lines = change(file.read_text().splitlines(keepends=True))
    target.write_text("".join(lines))
    return target


def test_the_same_settings_decide_the_same(recording: Path) -> None:
    found = replayed(recording)
    assert found.cycles == CYCLES
    assert found.is_equal
    assert sum(tally.changes[0] for tally in found.servers.values()) > 0


def test_other_settings_show_which_decisions_change(recording: Path) -> None:
    found = replayed(recording, forecaster__headroom=0.5)
    assert not found.is_equal
    first = found.differences[0]
    assert first.recorded is not None
    assert first.replayed is not None
    assert first.replayed.replicas > first.recorded.replicas
    assert sum(t.replica_cycles[1] for t in found.servers.values()) > sum(
        t.replica_cycles[0] for t in found.servers.values()
    )


def test_what_a_learning_estimator_knew_at_the_start_is_part_of_it(tmp_path: Path) -> None:
    learned = tmp_path / "ekf.json"
    ekf: dict[str, object] = {
        "estimator__name": "ekf",
        "estimator__mode": "apply",
        "estimator__state_file": str(learned),
    }
    record(tmp_path / "first.jsonl", **ekf)
    kept = learned.read_bytes()
    record(tmp_path / "second.jsonl", **ekf)
    after = learned.read_bytes()
    assert replayed(tmp_path / "second.jsonl").is_equal
    assert after != kept
    # The daemon's own file is left alone.
    assert learned.read_bytes() == after


def test_a_full_file_moves_aside_and_is_read_with_those_before_it(tmp_path: Path) -> None:
    file = tmp_path / "cycles.jsonl"
    record(file, recording__most_megabytes=0.1, recording__keep=9)
    parts = sorted(path for path in tmp_path.iterdir())
    assert 2 < len(parts) < 9
    assert all(path.stat().st_size < 140_000 for path in parts)
    found = replayed(file)
    assert found.is_equal
    assert found.cycles == CYCLES
    assert Recording(file).notes == []


def test_only_so_many_files_are_kept_and_what_is_missing_is_said(tmp_path: Path) -> None:
    file = tmp_path / "cycles.jsonl"
    record(file, recording__most_megabytes=0.1, recording__keep=2)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["cycles.jsonl", "cycles.jsonl.1", "cycles.jsonl.2"]
    tape = Recording(file)
    assert tape.header.part > 1
    assert f"cycles.jsonl.2 is part {tape.header.part}" in tape.notes[0]
    assert 0 < replayed(file).cycles < CYCLES


def test_a_recording_that_cannot_be_written_fails_no_cycle(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    record(tmp_path / "folder" / "cycles.jsonl")


def test_no_secret_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "cycles.jsonl"
    record(file, prometheus__username="root", prometheus__password_file="/x")  # noqa: S106
    text = file.read_text()
    assert "root" not in text
    assert "prometheus" not in text


def test_a_torn_last_line_is_a_note(recording: Path, tmp_path: Path) -> None:
    torn = edited(recording, tmp_path / "torn.jsonl", lambda lines: [*lines[:9], lines[9][:200]])
    tape = Recording(torn)
    assert len(list(tape.cycles())) == 8
    assert tape.notes == ["line 10 is torn: the writer was stopped in it"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: [], "is empty"),
        (lambda lines: lines[1:], "kind: must be 'controlloop recording'"),
        (lambda lines: [lines[0].replace('"version":1', '"version":9')], "version: must be 1"),
        (lambda lines: [*lines[:3], "{}\n", *lines[3:]], "line 4, now: is missing"),
        (lambda lines: [*lines[:3], "nonsense\n"], "line 4, column 1: is not JSON"),
        (
            lambda lines: [lines[0], lines[1].replace('"is":"Present"', '"is":"Guessed"', 1)],
            "must be Present or Stale or Missing",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    recording: Path, tmp_path: Path, change: Callable[[list[str]], list[str]], said: str
) -> None:
    bad = edited(recording, tmp_path / "bad.jsonl", change)
    with pytest.raises(InputError) as caught:
        replayed(bad)
    assert said in str(caught.value)
    assert "bad.jsonl" in str(caught.value)


def test_settings_that_a_replay_does_not_depend_on_are_refused(recording: Path) -> None:
    header = Recording(recording).header
    with pytest.raises(SettingsError, match=r"actuator\.mode: has no effect on a replay"):
        replayed_settings(header, {"actuator.mode": "dry-run", "stability.min_replicas": 2})
    with pytest.raises(SettingsError, match=r"stability\.nonsense"):
        replayed_settings(header, {"stability.nonsense": 2})


def test_the_command_says_equal_and_different_with_its_exit_code(
    recording: Path, tmp_path: Path
) -> None:
    def falsified(lines: list[str]) -> list[str]:
        cycle = json.loads(lines[20])
        cycle["decided"][0]["replicas"] += 3
        return [*lines[:20], json.dumps(cycle) + "\n", *lines[21:]]

    same = command(str(recording))
    false = command(str(edited(recording, tmp_path / "false.jsonl", falsified)))
    assert (same.returncode, false.returncode) == (0, 1), same.stderr + false.stderr
    assert f"{CYCLES} cycles" in same.stdout
    assert "0 differ (as recorded)" in same.stdout
    assert "1 differ" in false.stdout
    assert max(map(len, false.stdout.splitlines())) <= 120


def test_the_command_tries_settings_and_refuses_bad_ones(recording: Path, tmp_path: Path) -> None:
    tried = command(str(recording), "--set", "forecaster.headroom=0.5", "--format", "json")
    document = json.loads(tried.stdout)
    assert tried.returncode == 0
    assert document["equal"] is False
    assert document["settings"] == {"forecaster.headroom": 0.5}
    assert document["differences"][0]["replayed"]["replicas"] > 0
    for wrong in (["--set", "actuator.mode=apply"], ["--set", "nonsense"]):
        assert command(str(recording), *wrong).returncode == 2
    missing = command(str(tmp_path / "nowhere.jsonl"))
    assert missing.returncode == 2
    assert "nowhere.jsonl: cannot be read" in missing.stderr


def test_a_cycle_that_failed_is_skipped_and_counted(recording: Path, tmp_path: Path) -> None:
    def failed(lines: list[str]) -> list[str]:
        cycle = json.loads(lines[5])
        for key in ("observation", "decided"):
            del cycle[key]
        cycle["failed"] = str(Stage.OBSERVE)
        return [*lines[:5], json.dumps(cycle) + "\n"]

    found = replayed(edited(recording, tmp_path / "failed.jsonl", failed))
    assert dict(found.skipped) == {"observe": 1}
    assert found.cycles == 4


def test_values_come_back_as_they_went() -> None:
    catalog = read_fleet().catalog
    assert from_plain(System, json.loads(json.dumps(to_plain(catalog)))) == catalog
    for reading in (Present(1.0, 2.0), Stale(float("inf"), 3.0), Missing("why")):
        seen = {"arrival_rate_rps": to_plain(reading, named=True)}
        plain = {
            "time": 1.0,
            "servers": [
                {
                    "workload": {
                        "ref": {"namespace": "n", "name": "a"}, "server": "a", "model": "m",
                        "service_class": "c", "accelerator": "A", "max_batch": 1, "replicas": 2,
                    },
                    "signals": seen,
                }
            ],
        }  # fmt: skip
        value = from_plain(Observation, plain)
        assert value.servers[0].signals.arrival_rate_rps == reading
        assert to_plain(value) == json.loads(json.dumps(plain))


def test_a_header_holds_the_sections_that_decide_and_no_others() -> None:
    line = header_line(Header("1", Settings().model_dump(mode="json")))
    assert set(json.loads(line)["settings"]) == {
        "cycle", "collector", "optimizer", "estimator", "forecaster", "stability",
    }  # fmt: skip


def test_a_cycle_is_recorded_only_where_that_is_asked_for(tmp_path: Path) -> None:
    parts: Any = Parts(*[None] * 7)  # type: ignore[arg-type]
    asked = read_settings("", "", {"recording.file": str(tmp_path / "cycles.jsonl")})
    for settings, kind in ((Settings(), Cycle), (asked, RecordingCycle)):
        found = daemon_cycle(settings, parts, ManualClock(), {})
        assert type(found) is kind


def test_run_takes_the_file_to_record_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Settings] = []

    def build(settings: Settings, *_: object) -> None:
        seen.append(settings)
        raise InputError([Problem("", "enough")])

    monkeypatch.setattr("controlloop.composition.daemon.build_daemon", build)
    result = CliRunner().invoke(app, ["run", "--config", str(tmp_path), "--record", "x.jsonl"])
    assert isinstance(result.exception, InputError)
    assert seen[0].recording.file == "x.jsonl"
