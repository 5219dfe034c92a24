"""First parameters from estimated engine steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from controlloop.errors import InputError, Problem
from controlloop.queueing.models import analyze, replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.seed import SEQUENCES, batch_at, sample, seed_other, seed_roofline
from controlloop.tuner.seed_list import read_seed_list
from controlloop.tuner.seed_pairs import LeftOut, Pair, SeededPair, seed_list, seed_pair
from controlloop.tuner.seed_source import (
    PACKAGES,
    Basis,
    SeedError,
    Target,
    open_database,
)
from controlloop.tuner.sweep_fit import RunModel

WEIGHTS_MS, SEQUENCE_MS, CONTEXT_MS, TOKEN_MS = 12.0, 0.03, 8e-5, 0.05


@dataclass(frozen=True)
class Engine:
    """Steps by the formula of `roofline`, with known parameters."""

    room: float = 200_000.0
    basis: Basis = Basis.KERNELS

    def prompt_ms(self, tokens: int) -> float:
        return float(np.hypot(WEIGHTS_MS, TOKEN_MS * tokens))

    def decode_ms(self, sequences: int, context: int) -> float:
        step = np.hypot(WEIGHTS_MS, TOKEN_MS * sequences)
        return float(step + sequences * (SEQUENCE_MS + CONTEXT_MS * context))

    def room_tokens(self) -> float:
        return self.room


@dataclass(frozen=True)
class Source:
    """A package that knows cards big and small."""

    package: str = "steps 1.0"

    def problems_of(self, target: Target) -> list[Problem]:
        known = target.system in {"big", "small", "paper", "odd"}
        return [] if known else [Problem("--system", "is unknown", target.system)]

    def open(self, target: Target) -> Engine:
        if target.system == "odd":
            raise SeedError("odd: no answer")
        if target.system == "paper":
            return Engine(basis=Basis.LIMITS)
        return Engine(room=200_000.0 if target.system == "big" else 6_000.0 * target.cards)


def default_model() -> RunModel:
    return StateDependent()


def pair(system: str = "big") -> Pair:
    return Pair("llama", "A", 1, Target("llama", system), most_batch=128, at_tokens=512)


def test_the_parameters_behind_the_steps_are_found_again() -> None:
    values = seed_roofline(sample(Engine()), 0.3).values
    assert values["weights_ms"] == pytest.approx(WEIGHTS_MS, rel=0.01)
    assert values["sequence_ms"] == pytest.approx(SEQUENCE_MS, rel=0.03)
    assert values["context_ms"] == pytest.approx(CONTEXT_MS, rel=0.01)
    assert values["token_ms"] == pytest.approx(TOKEN_MS, rel=0.01)
    assert values["kv_tokens"] == 200_000.0


def test_what_no_step_shows_is_least_sure() -> None:
    errors = seed_roofline(sample(Engine()), 0.3).errors
    assert errors["request_ms"] == errors["stream_ms"] == errors["sequence_ms"] == 1.0
    assert errors["weights_ms"] == 0.3


def test_nothing_is_sampled_beyond_the_memory() -> None:
    found = sample(Engine(room=3000.0))
    assert float(np.max(found.decoding * found.context)) <= 3000.0
    assert float(found.prompt_tokens.max()) <= 3000.0
    assert len(sample(Engine()).step_ms) > len(found.step_ms)


def test_the_usual_model_predicts_what_roofline_does_at_light_load() -> None:
    roofline = seed_roofline(sample(Engine()), 0.3)
    other = seed_other(default_model(), roofline, 0.3, 128)
    case = {"max_batch": 64, "input_tokens": 512, "output_tokens": 256}
    truth, seen = (
        analyze(replicas(**case, parameters=list(each.values.values())), 1.0, each.queue_model)
        for each in (roofline, other)
    )
    np.testing.assert_allclose(seen.itl_ms, truth.itl_ms, rtol=0.25)
    np.testing.assert_allclose(seen.ttft_ms, truth.ttft_ms, rtol=0.35)
    # It says itself that it is less sure than what it was made from.
    assert other.errors["alpha_ms"] > roofline.errors["weights_ms"]


def test_limits_of_the_cards_count_for_less_than_measured_kernels() -> None:
    sure, unsure = (seed_pair(Source(), pair(name), []) for name in ("big", "paper"))
    seeds = (each.seeds["roofline"].errors["weights_ms"] for each in (sure, unsure))
    assert next(seeds) < next(seeds)


def test_an_entry_carries_names_and_batch() -> None:
    found = seed_pair(Source(), pair("small"), [default_model()])
    assert found.max_batch == batch_at(6000.0, 512, 128) == 3
    entry = found.perf("state-dependent")
    assert entry.parameter_names == ("alpha_ms", "beta_ms", "gamma_ms", "delta_ms")
    assert found.perf("roofline").queue_model == "roofline"
    assert all(value > 0 for value in entry.parameters)


def test_a_model_without_usual_values_is_refused() -> None:
    @dataclass(frozen=True)
    class Nameless:
        name: str = "nameless"
        parameter_names: tuple[str, ...] = ("a_ms",)

    with pytest.raises(ValueError, match="nameless"):
        seed_other(Nameless(), seed_roofline(sample(Engine()), 0.3), 0.3, 64)  # type: ignore[arg-type]


def listed(tmp_path: Path, *accelerators: dict[str, object]) -> Path:
    path = tmp_path / "list.json"
    models = [{"name": "llama", "path": "llama"}]
    path.write_text(json.dumps({"models": models, "accelerators": accelerators}))
    return path


def test_of_a_list_too_small_and_unanswered_pairs_are_left_out_with_a_reason(
    tmp_path: Path,
) -> None:
    path = listed(
        tmp_path,
        {"name": "B", "system": "big"},
        {"name": "S", "system": "small"},
        {"name": "S", "system": "small", "accCount": 4},
        {"name": "S", "system": "small", "accCount": 8},
        {"name": "O", "system": "odd"},
    )
    asked: list[Pair] = []
    found = list(seed_list(Source(), read_seed_list(path), [], "vllm", asked.append))
    seeded = [(each.pair.accelerator, each.pair.target.cards) for each in found
              if isinstance(each, SeededPair)]  # fmt: skip
    assert seeded == [("B", 1), ("S", 4)]
    reasons = [each.reason for each in found if isinstance(each, LeftOut)]
    assert len(reasons) == 2
    assert "room for 3 requests only" in reasons[0]
    assert reasons[1] == "odd: no answer"
    assert len(asked) == 4


def test_a_wrong_system_stops_a_list_before_any_work(tmp_path: Path) -> None:
    path = listed(tmp_path, {"name": "B", "system": "big"}, {"name": "X", "system": "nonesuch"})
    asked: list[Pair] = []
    with pytest.raises(InputError, match="nonesuch"):
        list(seed_list(Source(), read_seed_list(path), [], "vllm", asked.append))
    assert not asked


def test_a_list_names_all_that_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"models": [{"name": "a"}], "accelerators": [{"name": "A", "sistem": "b"}]}')
    with pytest.raises(InputError) as caught:
        read_seed_list(path)
    text = str(caught.value)
    assert "models[0].path" in text
    assert "sistem" in text
    assert str(path) in text


def test_model_folders_of_a_list_stand_beside_it(tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    path = listed(tmp_path, {"name": "B", "system": "big"})
    assert read_seed_list(path).models[0].path == str(tmp_path / "llama")


def test_the_shipped_list_can_be_read(root: Path) -> None:
    found = read_seed_list(root / "config" / "seeds" / "list.json")
    folders = [Path(each.path) for each in found.models if Path(each.path).is_dir()]
    assert len(folders) == 2
    assert all((folder / "config.json").is_file() for folder in folders)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PACKAGES:
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(SeedError, match=r"pip install 'controlloop\[seed\]'"):
        open_database()


@pytest.mark.slow
def test_the_real_package_estimates_an_8b_model_on_an_h100() -> None:
    pytest.importorskip(
        "aiconfigurator.cli.api",
        reason="the extra seed (aiconfigurator) is not installed",
        exc_type=ImportError,
    )
    database = open_database()
    target = Target("meta-llama/Meta-Llama-3.1-8B", "h100_sxm")
    steps = database.open(target)
    assert steps.basis is Basis.KERNELS
    # 16 GB of weights at 3.35 TB/s are 4.8 ms; a prompt of 1024 is 16 TFLOP, at most 989 a second.
    assert 4.8 < steps.decode_ms(1, 1024) < 10.0
    assert 16.0 < steps.prompt_ms(1024) < 60.0
    assert 300_000 < steps.room_tokens() < 500_000
    assert steps.decode_ms(max(SEQUENCES), 1024) > steps.decode_ms(1, 1024)
    wrong = database.problems_of(Target("no/such", "h1000", 0, "other"))
    assert [each.path for each in wrong] == ["--model", "--system", "--engine", "--tp"]
    with pytest.raises(SeedError, match="does not fit"):
        database.open(Target("meta-llama/Meta-Llama-3.1-70B", "h100_sxm"))


@dataclass(frozen=True)
class Slow(Engine):
    """All that `Engine` does, forty times as slow."""

    def prompt_ms(self, tokens: int) -> float:
        return 40.0 * Engine.prompt_ms(self, tokens)

    def decode_ms(self, sequences: int, context: int) -> float:
        return 40.0 * Engine.decode_ms(self, sequences, context)


def test_cards_of_any_pace_are_fitted_alike() -> None:
    pace = {}
    for engine in (Engine(), Slow()):
        roofline = seed_roofline(sample(engine), 0.3)
        pace[type(engine)] = roofline.values, seed_other(StateDependent(), roofline, 0.3, 128)
    fast, slow = (pace[each] for each in (Engine, Slow))
    assert slow[0]["token_ms"] == pytest.approx(40 * fast[0]["token_ms"], rel=0.02)
    assert slow[1].values["alpha_ms"] == pytest.approx(40 * fast[1].values["alpha_ms"], rel=0.1)
    assert slow[1].misfit < 0.3
