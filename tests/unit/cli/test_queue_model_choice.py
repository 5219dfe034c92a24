from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controlloop.cli.optimize import optimize
from controlloop.errors import UnknownPluginError

PAIR: dict[str, Any] = {"acc": "card", "accCount": 1, "maxBatchSize": 16, "atTokens": 256}
USUAL: dict[str, Any] = {
    "decodeParms": {"alpha": 10, "beta": 0.3},
    "prefillParms": {"gamma": 20, "delta": 0.01},
}


def answer(tmp_path: Path, pairs: list[dict[str, Any]], *options: str) -> dict[str, Any]:
    names = [f"model{at}" for at in range(len(pairs))]
    load = {"arrivalRate": 60, "avgInTokens": 100, "avgOutTokens": 256}
    none = {"accelerator": "", "numReplicas": 0, "maxBatch": 0, "cost": 0, "load": load}
    system = {
        "acceleratorData": {"accelerators": [{"name": "card", "type": "card", "cost": 10}]},
        "capacityData": {"count": [{"type": "card", "count": 50}]},
        "modelData": {
            "models": [PAIR | {"name": n} | p for n, p in zip(names, pairs, strict=True)]
        },
        "serviceClassData": {
            "serviceClasses": [
                {
                    "name": "Premium",
                    "priority": 1,
                    "modelTargets": [{"model": n, "slo-itl": 40, "slo-ttft": 2000} for n in names],
                }
            ]
        },
        "serverData": {
            "servers": [
                {"name": n, "class": "Premium", "model": n, "currentAlloc": none} for n in names
            ]
        },
        "optimizerData": {"optimizer": {"unlimited": True}},
    }
    path = tmp_path / "system.json"
    path.write_text(json.dumps({"system": system}))
    app = typer.Typer()
    app.command()(optimize)
    result = CliRunner().invoke(app, [str(path), "--format", "json", *options])
    if result.exception is not None:
        raise result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_option_is_for_pairs_that_name_no_queue_model(tmp_path: Path) -> None:
    pairs = [USUAL, USUAL | {"queueModel": "state-dependent"}]
    usual = answer(tmp_path, pairs)["allocations"]
    other = answer(tmp_path, pairs, "--queue-model", "mm1k")["allocations"]
    assert usual["model0"]["itlAverage"] == usual["model1"]["itlAverage"]
    assert other["model1"] == usual["model1"]
    # As in a full batch, whatever the load.
    assert other["model0"]["itlAverage"] == pytest.approx(10 + 0.3 * 16)
    assert usual["model0"]["itlAverage"] < 10 + 0.3 * 16


def test_unnamed_parameters_are_those_of_the_queue_model_asked_for(tmp_path: Path) -> None:
    pair = {"parameters": {"gamma_ms": 4e-5, "alpha_ms": 7, "beta_ms": 0.02}}
    found = answer(tmp_path, [pair], "--queue-model", "iteration-time")
    assert 7 < found["allocations"]["model0"]["itlAverage"] < 40
    refused = answer(tmp_path, [pair])["unserved"]["model0"]
    assert 'queue model "state-dependent" takes alpha_ms' in refused["detail"]


def test_a_queue_model_that_nobody_knows_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownPluginError, match="crystal-ball"):
        answer(tmp_path, [USUAL], "--queue-model", "crystal-ball")
