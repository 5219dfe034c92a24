"""`controlloop tune fit`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from controlloop.api.files import read_folder
from controlloop.cli.tune import app
from controlloop.errors import InputError, UnknownPluginError
from controlloop.queueing.benchmark_runs import RunKind, Runs, predict_runs
from controlloop.queueing.models import replicas
from controlloop.queueing.roofline import Roofline

pytestmark = pytest.mark.slow

TRUTH = {
    "weights_ms": 9.0,
    "sequence_ms": 0.03,
    "context_ms": 6e-5,
    "token_ms": 0.03,
    "request_ms": 5.0,
    "stream_ms": 0.06,
    "kv_tokens": 3e5,
}
SHAPES = ((256, 256), (1024, 256), (2048, 128))
RATES = (1.0, 2.0, 4.0, 6.0)
HEADER = "shape,strategy,rate_rps,duration_s,input_tokens,output_tokens,ttft_ms,itl_ms"


def fit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


def table(path: Path, shapes: Sequence[tuple[int, int]] = SHAPES) -> Path:
    """Runs exactly as `roofline` with `TRUTH` predicts them."""
    lines = [HEADER]
    for tokens_in, tokens_out in shapes:
        count = len(RATES)
        pairs = replicas(256, [tokens_in] * count, tokens_out, list(TRUTH.values()))
        rates = np.array(RATES)
        constant = np.full(count, int(RunKind.CONSTANT))
        runs = Runs(constant, rates, np.full(count, 600.0), np.full(count, 256.0))
        found = predict_runs(Roofline().times(pairs), runs, 8.0)
        lines += [
            f"{tokens_in}x{tokens_out},constant,{rate},600,{tokens_in},{tokens_out},{ttft},{itl}"
            for rate, ttft, itl in zip(RATES, found.ttft_ms, found.itl_ms, strict=True)
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    return table(tmp_path / "runs.csv")


def test_known_parameters_are_found_again_and_shapes_not_seen_predicted(measured: Path) -> None:
    result = fit(measured, "--format", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["queueModel"] == "roofline"
    assert found["parameters"]["weights_ms"] == pytest.approx(TRUTH["weights_ms"], rel=0.05)
    assert found["parameters"]["token_ms"] == pytest.approx(TRUTH["token_ms"], rel=0.05)
    below = found["errors"][0]
    assert below["ttft"] < 0.01
    assert below["itl"] < 0.01
    assert below["itl_held_out"] < 0.03
    assert len(found["runs"]) == len(SHAPES) * len(RATES)
    first = found["runs"][0]
    assert first["itl_predicted_ms"] == pytest.approx(first["itl_ms"], rel=0.02)
    assert set(found["relativeStandardErrors"]) == set(found["parameters"])


def test_the_table_shows_parameters_errors_and_each_run(measured: Path) -> None:
    text = fit(measured).stdout
    assert "Requests in service at most: 256 (a usual value" in text
    assert "weights_ms" in text
    assert "ITL held out" in text
    assert text.count("2048x128") == len(RATES)
    # The run of the highest rate of a shape is never fitted, and says so.
    assert text.count("(not fitted)") == len(SHAPES)


def test_one_shape_gives_no_held_out_error_and_says_so(tmp_path: Path) -> None:
    path = table(tmp_path / "one.csv", SHAPES[:1])
    assert "Held-out error: not known" in fit(path).stdout
    assert "itl_held_out" not in fit(path, "--format", "json").stdout


def test_another_queue_model_can_be_fitted(measured: Path) -> None:
    result = fit(measured, "--queue-model", "state-dependent", "--format", "json")
    assert set(json.loads(result.stdout)["parameters"]) >= {"alpha_ms", "beta_ms"}


def entries(path: Path) -> dict[tuple[str, str], Any]:
    return {(each["name"], each["acc"]): each for each in json.loads(path.read_text())["models"]}


def test_the_entry_is_written_in_the_documented_form_beside_others(
    measured: Path, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    for each in (root / "config" / "sample").iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    path = folder / "model-data.json"
    before = entries(path)
    written = ("--write", path, "--model-name", "llama-3.1-8b", "--acc", "H100")
    assert fit(measured, *written).exit_code == 0
    after = entries(path)
    pair = ("llama-3.1-8b", "H100")
    assert list(after) == list(before)
    assert {key: each for key, each in after.items() if key != pair} == {
        key: each for key, each in before.items() if key != pair
    }
    assert after[pair]["queueModel"] == "roofline"
    assert set(after[pair]["parameters"]) == set(TRUTH)
    assert "decodeParms" not in after[pair]
    # What was written is read again like any other.
    read_folder(folder)


def test_a_new_file_takes_decode_and_prefill_of_the_usual_model(
    measured: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.json"
    with measured.open("a") as file:
        file.write("1024x256,throughput,,600,1024,256,9000,60\n")
    text = measured.read_text().splitlines()
    clients = [f"{line},{96 if 'throughput' in line else ''}" for line in text[1:]]
    measured.write_text("\n".join([f"{text[0]},incomplete", *clients]))
    written = ("--write", path, "--model-name", "m", "--acc", "A")
    assert fit(measured, "--queue-model", "state-dependent", *written).exit_code == 0
    entry = entries(path)["m", "A"]
    assert entry["decodeParms"]["alpha"] > 0
    # As many as the clients that saturated it.
    assert entry["maxBatchSize"] == 96


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_written(measured: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fit{suffix}"
    assert fit(measured, "--plot", path).exit_code == 0
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--plot", "fit.pdf"), "--plot: must end in"),
        (("--plot", "/nonesuch/fit.png"), "cannot be written"),
        (("--write", "out.json"), "needs --model-name and --acc"),
        (("--max-batch", "0"), "--max-batch: must be >= 1"),
        (("--acc-count", "0"), "--acc-count: must be >= 1, got 0"),
        (("--at-tokens", "-3"), "--at-tokens: must be >= 1, got -3"),
        (("--write", "/nonesuch/x.json", "--model-name", "m", "--acc", "A"), "cannot be"),
        (("--write", "{csv}", "--model-name", "m", "--acc", "A"), "line 1"),
    ],
)
def test_bad_options_are_named(measured: Path, arguments: tuple[str, ...], said: str) -> None:
    before = measured.read_bytes()
    given = [each.replace("{csv}", str(measured)) for each in arguments]
    result = fit(measured, *given)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert measured.read_bytes() == before


def test_an_unknown_queue_model_is_refused(measured: Path) -> None:
    result = fit(measured, "--queue-model", "nonesuch")
    assert isinstance(result.exception, UnknownPluginError)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = fit(tmp_path / "absent.json")
    assert isinstance(result.exception, InputError)
    assert "absent.json: does not exist" in str(result.exception)


def test_the_measured_sweeps_are_predicted(shared_data: Callable[[str], Path]) -> None:
    """With nothing said of the server: its batch is told by the saturated runs."""
    path = shared_data("measured/vllm-llama-3.1-8b-sweeps.json")
    found = json.loads(fit(path, "--format", "json").stdout)
    assert found["maxBatch"] == 512
    below, saturated = found["errors"]
    assert below["ttft_held_out"] <= 0.08
    assert below["itl_held_out"] <= 0.045
    assert saturated["ttft_held_out"] <= 0.25
    assert saturated["itl_held_out"] <= 0.20
