from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controlloop.cli.app import main

pytestmark = pytest.mark.slow

QUICK = ("--plant", "fluid", "--hours", "0.05", "--jobs", "1")


def controlloop(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controlloop", "backtest", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_json_and_report_from_the_runs_of_a_sweep(tmp_path: Path) -> None:
    asked = (
        *("--workload", "step", "--startup", "30", "--policy", "loop", "--policy", "keda-rate"),
        *("--format", "json", "--sweep", "runs.jsonl", *QUICK),
    )
    done = controlloop(*asked, "--output", "report.html", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (contest,) = document["contests"]
    assert (contest["workload"], contest["startupSeconds"]) == ("step", 30.0)
    ours, keda = contest["policies"]
    assert not ours["knob"]["tuned"]
    assert keda["knob"]["tuned"]
    assert keda["knob"]["value"] in [one["knob"] for one in keda["training"]]
    assert ours["costAtLoopsAttainment"]["value"] <= 1.0
    for numbers in (ours["mean"], keda["mean"]):
        assert 0 <= numbers["withinBoth"] <= numbers["withinTtft"] <= 1
        assert numbers["cost"] > 0

    # Again, from the file alone: nothing is run, and every byte is the same.
    runs = (tmp_path / "runs.jsonl").read_bytes()
    again = controlloop(*asked, "--output", "again.html", cwd=tmp_path)
    assert again.stdout == done.stdout
    assert (tmp_path / "runs.jsonl").read_bytes() == runs
    report = (tmp_path / "report.html").read_bytes()
    assert (tmp_path / "again.html").read_bytes() == report
    text = report.decode()
    assert text.count("<svg") == 3
    assert not re.findall(r"https?://|src=|@import|url\((?!#)", text)


def test_tables_fit_a_hundred_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = "loop:cycle.period_s=30,stability.flap_reversals=0,stability.down_window_s=120"
    policies = ["--policy", "static-peak", "--policy", variant]
    asked = ["backtest", "--workload", "step", *policies, *QUICK]
    monkeypatch.setattr(sys, "argv", ["controlloop", *asked])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "step, own start-up times"
    assert any(line.startswith(" static-peak") for line in lines)
    assert all(len(line) <= 100 for line in lines)
    header = next(line for line in lines if line.startswith(" policy"))
    assert header.split()[1:4] == ["knob", "both%", "TTFT%"]
    assert any("flap_reversals=0" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--trace or --workload must say which load"),
        (("--workload", "step", "--policy", "vpa"), "--policy: must be one of loop"),
        (("--workload", "lunar"), "unknown workload 'lunar'"),
        (("--workload", "step", "--policy", "loop:forecaster.nme=x"), "forecaster.nme"),
        (("--workload", "os:getcwd"), "workload 'os:getcwd' cannot be built: TypeError"),
        (("--workload", "pathlib:PurePath"), "workload 'pathlib:PurePath' cannot be built"),
        (("--workload", "step", "--startup", "inf"), "'--startup'"),
        (("--trace", "short.csv", "--jobs", "1"), "short.csv: lasts 5 s; half of it is judged"),
        (("--trace", "none.csv"), "none.csv: cannot be read"),
        (("--trace", "empty.csv"), "empty.csv: is empty"),
        (("--trace", "late.csv"), "late.csv: line 3, time: must not be before the line above"),
        (("--trace", "negative.csv"), "line 2, input tokens: must be >= 0, got -5"),
        (("--workload", "step", "--output", "report.pdf"), "--output: must end in .html"),
        (("--workload", "step", "--sweep", "notes.txt"), "notes.txt: line 1: is no line"),
    ],
)
def test_bad_input_is_named_and_nothing_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    head = "time,input_tokens,output_tokens\n"
    (tmp_path / "empty.csv").write_text(head)
    (tmp_path / "short.csv").write_text(f"{head}0,5,10\n5,5,10\n")
    (tmp_path / "late.csv").write_text(f"{head}5,10,10\n4,10,10\n")
    (tmp_path / "negative.csv").write_text(f"{head}5,-5,10\n")
    (tmp_path / "notes.txt").write_text("milk\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["controlloop", "backtest", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    said = capsys.readouterr()
    assert ended.value.code == 2
    assert words in said.err
    assert said.out == ""


def test_ctrl_c_loses_nothing_that_is_done(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    asked = ["--workload", "step", "--policy", "keda-rate", "--plant", "fluid", "--hours", "0.2"]
    asked += ["--sweep", str(path), "--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "controlloop", "backtest", *asked],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as running:
        while not path.exists() or not path.read_text():
            assert running.poll() is None
            time.sleep(0.02)
        # As a terminal does it: its workers get it too, one of which may be starting still.
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)

    kept = path.read_text().splitlines()
    assert running.returncode == 1
    assert f"stopped; {len(kept)} runs are kept in {path}, run again" in errors
    assert "Traceback" not in errors
    done = controlloop(*asked, cwd=tmp_path)
    assert done.returncode == 0
    assert path.read_text().splitlines()[: len(kept)] == kept
