"""`controlloop tune seed`, on steps of a made-up package."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from controlloop.cli.app import main
from controlloop.cli.tune import app
from controlloop.errors import InputError
from controlloop.tuner import seed_source
from controlloop.tuner.seed_source import KernelDatabase, SeedError

GIB = 2.0**30
KV_BYTES = 131072


def estimate(model: str, system: str, **asked: Any) -> SimpleNamespace:
    """Answers as the package gives them; cards named bare have no measured kernels."""
    if system == "bare" and asked["database_mode"] == "SILICON":
        raise ValueError(f"No database found for system={system}\nand more")
    if system == "none":
        raise ValueError("nothing known at all")
    batch, tokens, cards = asked["batch_size"], asked["isl"], asked["tp_size"]
    decode = np.hypot(6.0, 0.02 * batch) + batch * (0.01 + 4e-5 * tokens)
    kv = batch * (tokens + 2) * KV_BYTES / cards / GIB
    memory = {"kvcache": kv, "total": kv + (90.0 if model == "huge" else 18.0) / cards}
    return SimpleNamespace(
        ttft=float(np.hypot(6.0, 0.02 * tokens)) / cards,
        tpot=float(decode) / cards,
        summary=SimpleNamespace(get_memory=lambda: memory, get_mem_capacity_bytes=lambda: 80 * GIB),
    )


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    database = KernelDatabase(
        package="steps 1.0",
        estimate=estimate,
        models=frozenset({"org/Model-8B", "huge"}),
        systems=frozenset({"card", "bare", "none"}),
    )
    monkeypatch.setattr(seed_source, "open_database", lambda: database)


def seed(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["seed", *map(str, arguments)])


def test_a_table_shows_each_parameter_with_its_range_and_source() -> None:
    text = seed("--model", "org/Model-8B", "--system", "card").stdout
    assert "steps 1.0" in text
    assert "measured kernels" in text
    assert "weights_ms" in text
    assert "alpha_ms" in text
    assert "Likely from" in text


def test_json_holds_the_entries_and_what_they_rest_on() -> None:
    result = seed("--model", "org/Model-8B", "--system", "bare", "--format", "json")
    (pair,) = json.loads(result.stdout)["pairs"]
    assert pair["basis"] == "data sheet limits"
    assert pair["kvTokens"] == pytest.approx((0.9 * 80 - 18) * GIB / KV_BYTES)
    entries = {each["entry"]["queueModel"]: each for each in pair["seeds"]}
    assert entries["roofline"]["entry"]["parameters"]["weights_ms"] == pytest.approx(6.0, rel=0.02)
    assert entries["roofline"]["logErrors"]["weights_ms"] == 0.7
    assert entries["state-dependent"]["entry"]["name"] == "model-8b"


def test_tensor_parallelism_divides_the_work() -> None:
    asked = ("--model", "org/Model-8B", "--system", "card", "--format", "json", "--tp")
    one, two = (json.loads(seed(*asked, tp).stdout)["pairs"][0] for tp in ("1", "2"))
    assert two["kvTokens"] > 2 * one["kvTokens"]
    assert two["cards"] == 2


def test_the_entry_is_written_for_the_queue_model_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model-data.json"
    for model in ("state-dependent", "roofline"):
        named = ("--write", path, "--queue-model", model, "--model-name", "m", "--acc", "A")
        assert seed("--model", "org/Model-8B", "--system", "card", *named).exit_code == 0
        (entry,) = json.loads(path.read_text())["models"]
        assert (entry["name"], entry["acc"], entry["queueModel"]) == ("m", "A", model)


def write_list(tmp_path: Path) -> Path:
    path = tmp_path / "list.json"
    models = [{"name": "small", "path": "org/Model-8B"}, {"name": "large", "path": "huge"}]
    cards = [{"name": "C", "system": "card"}, {"name": "2xC", "system": "card", "multiplicity": 2}]
    path.write_text(json.dumps({"models": models, "accelerators": cards}))
    return path


def test_all_fills_a_file_and_says_what_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "model-data.json"
    result = seed("--all", write_list(tmp_path), "--write", out)
    assert result.exit_code == 0
    written = [(each["name"], each["acc"]) for each in json.loads(out.read_text())["models"]]
    assert written == [("small", "C"), ("small", "2xC"), ("large", "2xC")]
    assert "Left out: huge on 1 x card: the model does not fit" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--model: is needed"),
        (("--model", "org/Model-8B"), "--system: is needed"),
        (("--model", "nonesuch", "--system", "card"), "org/Model-8B"),
        (("--model", "org/Model-8B", "--system", "nonesuch"), "--system: must be one of bare"),
        (("--model", "org/Model-8B", "--system", "card", "--tp", "0"), "--tp: must be >= 1"),
        (("--model", "org/Model-8B", "--system", "card", "--engine", "x"), "--engine"),
        (("--model", "org/Model-8B", "--system", "card", "--max-batch", "0"), "--max-batch"),
        (("--all", "nonesuch.json"), "nonesuch.json: cannot be read"),
        (("--all", "nonesuch.json", "--model", "x"), "cannot be given beside --all"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], said: str) -> None:
    result = seed(*arguments)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_no_answer_is_told_with_the_packages_own_reason() -> None:
    result = seed("--model", "org/Model-8B", "--system", "none")
    assert isinstance(result.exception, SeedError)
    assert "nothing known at all" in str(result.exception)


def test_a_missing_package_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> KernelDatabase:
        raise SeedError("aiconfigurator is not installed; install it")

    monkeypatch.setattr(seed_source, "open_database", missing)
    arguments = ["controlloop", "tune", "seed", "--model", "org/Model-8B", "--system", "card"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "not installed" in capsys.readouterr().err
