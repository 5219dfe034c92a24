from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from controlloop.cli.queue import app
from controlloop.cli.queue_plot import portray
from controlloop.errors import InputError
from controlloop.queueing.models import queue_models

pytestmark = pytest.mark.slow

# A published case: ITL of 50 ms holds up to 35.2 requests/minute.
PUBLISHED: dict[str, Any] = {
    "max_batch": 48,
    "input_tokens": 0,
    "output_tokens": 1025,
    "alpha_ms": 19,
    "beta_ms": 1,
    "gamma_ms": 0,
    "delta_ms": 0,
    "target_itl_ms": 50,
}


def plot(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, ["plot", *arguments], input=text)


def portrait(**changes: Any) -> Any:
    return portray({**PUBLISHED, **changes}, queue_models().create("state-dependent"))


def test_the_sized_point_is_the_published_one_and_lies_on_the_curves() -> None:
    found = portrait()
    assert found.sized_rps * 60 == pytest.approx(35.2, rel=1e-3)
    assert found.point["itl_ms"] == pytest.approx(50.0, rel=1e-6)
    curves = found.over_rate
    assert np.interp(found.sized_rps, curves.x, curves.itl_ms) == pytest.approx(50.0, rel=1e-3)
    assert (curves.x[0], curves.x[-1]) == (0.0, found.point["max_rate_rps"])
    assert np.all(np.diff(curves.itl_ms) > 0)
    assert np.all(np.isfinite(curves.tokens_per_s))


def test_over_the_batch_the_rate_is_the_one_asked_about_else_the_sized_one() -> None:
    sized, asked = portrait(), portrait(rate_rps=0.5)
    assert sized.rate_rps == sized.sized_rps
    assert asked.rate_rps == 0.5
    at = int(np.flatnonzero(asked.over_batch.x == 48)[0])
    (analysis,) = json.loads(
        CliRunner()
        .invoke(app, ["analyze", "-"], input=json.dumps([PUBLISHED | {"rate_rps": 0.5}]))
        .stdout
    )
    assert asked.over_batch.itl_ms[at] == pytest.approx(analysis["itl_ms"])
    assert asked.sized[at] == pytest.approx(sized.sized_rps)


def test_where_no_rate_meets_the_targets_there_is_no_point() -> None:
    found = portrait(target_itl_ms=5)
    assert found.point is None
    assert np.isnan(found.sized).all()
    assert found.rate_rps == pytest.approx(0.5 * found.over_rate.x[-1])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rate_rps": 0.5, "target_ttft_ms": 1000, "target_tps": 100},
        {"target_itl_ms": 0},
        {"target_itl_ms": 5},
        {"max_batch": 1, "input_tokens": 8, "delta_ms": 1},
        {"rate_rps": 99},
    ],
)
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_replica_can_be_drawn(tmp_path: Path, changes: dict[str, Any], suffix: str) -> None:
    question = tmp_path / "replica.json"
    question.write_text(json.dumps([PUBLISHED | changes]))
    picture = tmp_path / f"replica.{suffix}"
    result = plot(str(question), "-o", str(picture))
    assert result.exit_code == 0, result.output
    start = picture.read_bytes()[:1000]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in start
    assert picture.stat().st_size > 10_000


def test_keys_are_read_without_regard_to_case(tmp_path: Path) -> None:
    question = {key.upper(): value for key, value in PUBLISHED.items()}
    picture = tmp_path / "replica.svg"
    assert plot("-", "-o", str(picture), text=json.dumps(question)).exit_code == 0


@pytest.mark.parametrize(
    ("text", "output", "error"),
    [
        (json.dumps(PUBLISHED | {"max_batch": 0}), "x.png", "max_batch: must be >= 1, got 0"),
        (json.dumps(PUBLISHED | {"speed": 1}), "x.png", "speed: is not a known key"),
        (json.dumps([PUBLISHED, PUBLISHED]), "x.png", "must be one input"),
        ("[]", "x.png", "must be one input"),
        ("[3]", "x.png", "must be one input"),
        ("{", "x.png", "is not JSON"),
        (json.dumps(PUBLISHED), "x.pdf", "--output: must end in .png or .svg, got x.pdf"),
        (json.dumps(PUBLISHED), "/proc/none/x.png", "--output: cannot be written: No such file"),
    ],
)
def test_what_cannot_be_drawn_is_bad_input(text: str, output: str, error: str) -> None:
    result = plot("-", "-o", output, text=text)
    assert isinstance(result.exception, InputError)
    assert error in str(result.exception)
    assert not Path(output).exists()


def test_a_target_far_above_the_curves_leaves_them_their_room(tmp_path: Path) -> None:
    question = PUBLISHED | {"target_itl_ms": 1000.0}
    # The layout warns where it does not fit, and warnings are errors here.
    found = plot("-", "-o", str(tmp_path / "replica.png"), text=json.dumps(question))
    assert found.exit_code == 0, found.output
