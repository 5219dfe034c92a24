from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controlloop.cli.queue import app
from controlloop.errors import InputError, UnknownPluginError

GOOD = {
    "max_batch": 48,
    "max_queue": 480,
    "input_tokens": 0,
    "output_tokens": 1025,
    "alpha_ms": 19,
    "beta_ms": 1,
    "gamma_ms": 0,
    "delta_ms": 0,
    "rate_rps": 0.5,
    "target_itl_ms": 50,
}
STATE = {
    "throughput_rps",
    "response_ms",
    "wait_ms",
    "in_service",
    "prefill_ms",
    "itl_ms",
    "max_rate_rps",
    "utilization",
}


def ask(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=text)


def answers(command: str, *inputs: dict[str, Any]) -> Any:
    result = ask(command, "-", text=json.dumps(inputs))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_analyze_prints_the_state_of_each_input_in_order() -> None:
    slow, fast = answers("analyze", {**GOOD, "rate_rps": 0.1}, GOOD)
    assert set(slow) == STATE
    assert slow["throughput_rps"] == pytest.approx(0.1)
    assert fast["itl_ms"] > slow["itl_ms"]


def test_size_prints_the_rate_that_each_target_allows() -> None:
    (found,) = answers("size", GOOD)
    assert list(found) == ["rate_ttft_rps", "rate_itl_rps", "rate_tps_rps", "at"]
    assert found["rate_itl_rps"] * 60 == pytest.approx(35.2, rel=1e-4)
    assert found["rate_ttft_rps"] == found["rate_tps_rps"] == found["at"]["max_rate_rps"]
    assert set(found["at"]) == STATE


def test_a_file_is_read_as_standard_input_is(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(json.dumps([GOOD]))
    assert json.loads(ask("size", str(path)).stdout) == answers("size", GOOD)


def test_a_missing_queue_is_ten_batches_and_missing_targets_are_none() -> None:
    bare = {key: GOOD[key] for key in GOOD if key not in {"max_queue", "target_itl_ms"}}
    assert answers("analyze", bare) == answers("analyze", GOOD)
    (found,) = answers("size", bare)
    assert found["rate_itl_rps"] == found["at"]["max_rate_rps"]


@pytest.mark.parametrize(
    ("command", "change", "error"),
    [
        ("analyze", {"rate_rps": 100}, "rate above the maximum"),
        ("size", {"target_itl_ms": 19.5}, "target unreachable"),
        ("size", {"target_ttft_ms": 0.5, "input_tokens": 8, "gamma_ms": 1}, "target unreachable"),
        ("size", {"max_batch": 0}, "max_batch: must be >= 1, got 0"),
        ("size", {"max_batch": 1.5}, "max_batch: must be a whole number, got 1.5"),
        ("size", {"max_batch": 10**9}, "max_batch: must be <= 4194304, got 1000000000"),
        ("size", {"output_tokens": 0}, "output_tokens: must be > 0, got 0"),
        ("size", {"alpha_ms": -1}, "alpha_ms: must be >= 0, got -1"),
        ("size", {"beta_ms": "1"}, 'beta_ms: must be a number, got "1"'),
        ("size", {"gamma_ms": float("nan")}, "gamma_ms: must be a finite number, got NaN"),
        ("size", {"delta_ms": True}, "delta_ms: must be a number, got true"),
        ("size", {"alpha_ms": None}, "alpha_ms: is required"),
        ("analyze", {"rate_rps": None}, "rate_rps: is required"),
        ("size", {"target_itl": 5}, "target_itl: is not a known key; did you mean target_itl_ms?"),
        ("size", {"output_tokens": 1}, "a request takes no time"),
    ],
)
def test_an_impossible_input_is_answered_with_its_error(
    command: str, change: dict[str, Any], error: str
) -> None:
    before, found, after = answers(command, GOOD, {**GOOD, **change}, GOOD)
    assert list(found) == ["error"]
    assert error in found["error"]
    assert "error" not in before
    assert before == after


def test_all_errors_of_an_input_are_told_at_once() -> None:
    (found,) = answers("size", {**GOOD, "max_batch": 0, "alpha_ms": -1})
    assert "max_batch: must be >= 1, got 0" in found["error"]
    assert "alpha_ms: must be >= 0, got -1" in found["error"]


def test_what_is_no_object_is_answered_with_an_error() -> None:
    result = ask("size", "-", text="[3]")
    assert json.loads(result.stdout) == [{"error": "must be an object, got 3"}]


def test_an_empty_list_has_an_empty_answer() -> None:
    assert answers("size") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "standard input: must be a JSON list of inputs"),
        ("[1,", "standard input: line 1, column 4: is not JSON"),
        ("", "standard input: line 1, column 1: is not JSON"),
    ],
)
def test_what_is_no_json_list_is_refused_whole(text: str, message: str) -> None:
    result = ask("size", "-", text=text)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.json", "does not exist"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        result = ask("analyze", str(path))
        assert isinstance(result.exception, InputError)
        assert f"{path}: {reason}" in str(result.exception)
        assert result.stdout == ""


def test_an_unknown_model_names_those_there_are() -> None:
    result = ask("size", "-", "--model", "mg1", text="[]")
    assert isinstance(result.exception, UnknownPluginError)
    assert "state-dependent" in str(result.exception)
