"""`controlloop simulate`: equal seeds, bad input, tables, and what it serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def controlloop(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controlloop", "simulate", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_equal_seeds_print_the_same_bytes() -> None:
    asked = ("--workload", "burst", "--hours", "0.1", "--load", "0.2", "--format", "json")
    one, again, other = (controlloop(*asked, "--seed", seed) for seed in ("3", "3", "4"))
    assert one.returncode == 0, one.stderr
    assert one.stdout == again.stdout
    assert one.stdout != other.stdout
    document = json.loads(one.stdout)
    assert document["controlled"] is True
    assert document["attainment"]["requests"] > 1000
    assert document["servers"][0]["ttftMs"]["p95"] > 0


def test_a_trace_gives_every_server_its_load_and_lengths(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    lines = [f"2024-01-01 00:{each // 60:02d}:{each % 60:02d}.0,700,20\n" for each in range(360)]
    trace.write_text(HEADER + "".join(lines))
    done = controlloop(
        "--trace", str(trace), "--hours", "0.1", "--load", "0.2", "--no-control",
        "--router", "power-of-two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "left alone" in done.stdout
    assert "Within both" in done.stdout
    assert all(len(line.rstrip()) <= 100 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER, "is empty"),
        (HEADER + "5,1,1\n4,1,1\n", "line 3, time: must not be before the line above, got 4"),
        (HEADER + "5,-1,1\n", "line 2, input tokens: must be >= 0, got -1"),
        (HEADER + "0,1,1\n", "has no rate"),
        (HEADER + "0,1,1\n1e300,1,1\n", "line 3, time: must be in seconds"),
    ],
)
def test_a_bad_trace_is_bad_input(tmp_path: Path, content: str, message: str) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(content)
    done = controlloop("--trace", str(trace))
    assert done.returncode == 2
    assert message in done.stderr
    assert str(trace) in done.stderr
    assert done.stdout == ""


def test_other_bad_input_is_named(tmp_path: Path) -> None:
    unknown = controlloop("--workload", "tides")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "unknown workload 'tides'" in unknown.stderr
    endless = controlloop("--load", "inf")
    assert (endless.returncode, endless.stdout) == (2, "")
    assert "'--load'" in endless.stderr
    none = controlloop("--workload", "os:getcwd")
    assert (none.returncode, none.stdout) == (2, "")
    assert "workload 'os:getcwd' cannot be built" in none.stderr
    both = controlloop("--workload", "step", "--trace", "x.csv", "--hours", "0.01")
    assert both.returncode == 2
    assert [line.split(":")[1].strip() for line in both.stderr.splitlines()] == [
        "--hours",
        "--trace",
    ]
