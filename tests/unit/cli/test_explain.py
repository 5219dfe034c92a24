from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controlloop.cli.app import app
from controlloop.optimizer.milp import MilpSolver
from controlloop.optimizer.milp.backends import PulpBackend


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, ["explain", *arguments], input=text)


@pytest.fixture
def sample(root: Path) -> str:
    return str(root / "config" / "sample")


def test_the_table_tells_demand_winner_next_best_reasons_and_prices(sample: str) -> None:
    result = run("chat-8b", sample)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "demand 3600.0 req/min (arrivals) of 512 input and 256 output tokens" in text
    assert "gets 2 of H100, 1180.00 cents/h; next best is 6 of A100, 1500.00 cents/h" in text
    assert "cost +320.00 cents/h" in text
    assert "ITL 25 ms is below the least possible 39.1 ms on 2xL4" in text
    assert "One more card of each type: L4: changes nothing" in text
    assert "\x1b[" not in result.stdout


def test_json_carries_every_accelerator_and_the_shadow_prices(sample: str) -> None:
    result = run("chat-8b", sample, "--format", "json")
    document = json.loads(result.stdout)
    standings = {each["accelerator"]: each["standing"] for each in document["accelerators"]}
    assert len(standings) == 10
    assert (standings["H100"], standings["A100"], standings["L4"]) == (
        "chosen",
        "feasible",
        "infeasible",
    )
    assert [each["type"] for each in document["shadowPrices"]] == ["L4", "L40S", "A100", "H100"]
    assert document["allocation"]["numReplicas"] == 2


def test_prices_can_be_left_out(sample: str) -> None:
    assert (
        json.loads(run("chat-8b", sample, "--format", "json", "--no-prices").stdout)["shadowPrices"]
        is None
    )
    assert "One more card" not in run("chat-8b", sample, "--no-prices").stdout


def test_an_unknown_server_ends_with_code_2_and_the_nearest_name(sample: str) -> None:
    command = [sys.executable, "-m", "controlloop", "explain", "chat-8c", sample]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'controlloop: there is no server "chat-8c"; did you mean chat-8b?\n'


def test_the_time_limit_bounds_the_exact_solver_and_its_end_is_told(
    sample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float | None, float | None]] = []
    solve = MilpSolver.solve

    def noting(self: Any, candidates: Any, capacity: Any, options: Any) -> Any:
        asked.append((options.time_limit_s, options.gap))
        return solve(self, candidates, capacity, options)

    monkeypatch.setattr(MilpSolver, "solve", noting)
    exact = ("chat-8b", sample, "--no-prices", "--set", "solver=milp")
    assert run(*exact, "--time-limit", "7", "--gap", "0.02").exit_code == 0
    assert asked == [(7.0, 0.02)]
    monkeypatch.setattr(PulpBackend, "available", lambda _: False)
    result = run(*exact, "--format", "json")
    why = "HiGHS is not installed: this is the greedy solver's answer"
    assert result.stderr.splitlines() == [f"warning: {why}"]
    document = json.loads(result.stdout)
    assert (document["solver"], document["message"]) == ("greedy", why)


def test_a_mix_is_compared_with_the_best_single_accelerator(sample: str) -> None:
    mixed = ("--set", "milpSolver=true", "--set", "heterogeneous=true", "--no-prices")
    text = " ".join(run("analyst-70b", sample, *mixed).stdout.split())
    assert "gets 1 of 4xA100 + 1 of L40S" in text
    assert "next best on one accelerator is" in text
