"""Estimates of engine steps from NVIDIA's aiconfigurator, the only place that imports it.

The package estimates from a database of kernels measured on real cards, offline and on a CPU. It
is being renamed aisimulate: either name will do. Only its static estimates are asked for: one
pass over prompts, one decode step. What it makes of a whole engine under load is left to our
queue models. Nothing is downloaded: a model is one that it ships, or a folder with config.json.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from importlib import import_module, resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from controlloop.errors import ControlLoopError, InputError, Problem

PACKAGES: Final = ("aisimulate", "aiconfigurator")
INSTALL: Final = "install it with: pip install 'controlloop[seed]'"
ENGINES: Final = ("vllm", "sglang", "trtllm")
# What vLLM takes of a card's memory by default.
MEMORY_SHARE: Final = 0.9
_GIB: Final = 2.0**30
_PROBE_SEQUENCES, _PROBE_TOKENS = 8, 1024
_NEAR: Final = 5


class SeedError(ControlLoopError):
    """No first parameters can be made: the package is missing, or has no answer."""


class Basis(StrEnum):
    """What an estimate rests on."""

    KERNELS = "measured kernels"
    LIMITS = "data sheet limits"


_MODES: Final = ((Basis.KERNELS, "SILICON"), (Basis.LIMITS, "SOL"))


@dataclass(frozen=True, slots=True)
class Target:
    """One replica.

    Attributes:
        model: an id that the package ships (meta-llama/Meta-Llama-3.1-8B), or a folder with
            config.json.
        system: the package's name of the cards, as h100_sxm.
        cards: cards that share a model by tensor parallelism.
        engine: one of `ENGINES`.

    """

    model: str
    system: str
    cards: int = 1
    engine: str = "vllm"

    def __str__(self) -> str:
        return f"{self.model} on {self.cards} x {self.system}"


@dataclass(frozen=True, slots=True)
class KernelDatabase:
    """The package's estimates.

    Attributes:
        package: its name and version.
        estimate: its `cli_estimate`.
        models: ids that it ships.
        systems: names of cards that it knows.

    """

    package: str
    estimate: Callable[..., Any]
    models: frozenset[str]
    systems: frozenset[str]

    def problems_of(self, target: Target) -> list[Problem]:
        """What is wrong with a target."""
        found = []
        if target.model not in self.models and not (Path(target.model) / "config.json").is_file():
            near = get_close_matches(target.model, self.models, _NEAR, 0.0)
            rule = (
                f"must be a folder with config.json, or one of {len(self.models)} ids that"
                f" {self.package} ships, such as {', '.join(near)}"
            )
            found.append(Problem("--model", rule, target.model))
        if target.system not in self.systems:
            rule = f"must be one of {', '.join(sorted(self.systems))}"
            found.append(Problem("--system", rule, target.system))
        if target.engine not in ENGINES:
            rule = f"must be one of {', '.join(ENGINES)}"
            found.append(Problem("--engine", rule, target.engine))
        if target.cards < 1:
            found.append(Problem("--tp", "must be >= 1", str(target.cards)))
        return found

    def open(self, target: Target) -> Steps:
        """Estimates of one target, from measured kernels, else from the cards' limits.

        Raises:
            InputError: everything that is wrong with the target.
            SeedError: the package has no answer for it, or the model does not fit.

        """
        problems = self.problems_of(target)
        if problems:
            raise InputError(problems)
        refusals = []
        for basis, mode in _MODES:
            steps = Steps(self, target, basis, mode)
            try:
                room = steps.room_tokens()
            except SeedError as error:
                refusals.append(str(error))
                continue
            if room <= 0:
                raise SeedError(f"{target}: the model does not fit into the memory")
            return steps
        raise SeedError(refusals[0])


@dataclass(frozen=True, slots=True)
class Steps:
    """Estimated engine steps of one target; times in ms."""

    database: KernelDatabase
    target: Target
    basis: Basis
    mode: str = field(repr=False)

    def prompt_ms(self, tokens: int) -> float:
        """An iteration that computes one prompt and nothing else."""
        return self._positive("ttft", self._ask("static_ctx", 1, tokens))

    def decode_ms(self, sequences: int, context: int) -> float:
        """An iteration in which `sequences`, each of `context` tokens, take one token each."""
        return self._positive("tpot", self._ask("static_gen", sequences, context))

    def room_tokens(self) -> float:
        """Tokens that the KV cache holds; not above 0 where the weights leave no room."""
        summary = self._ask("static_gen", _PROBE_SEQUENCES, _PROBE_TOKENS).summary
        memory, capacity = summary.get_memory(), summary.get_mem_capacity_bytes()
        # The estimate is at the end of a run of two tokens.
        per_token = memory["kvcache"] * _GIB / (_PROBE_SEQUENCES * (_PROBE_TOKENS + 2))
        fixed = (memory["total"] - memory["kvcache"]) * _GIB
        return float((MEMORY_SHARE * capacity - fixed) / per_token)

    def _ask(self, what: str, batch: int, tokens: int) -> Any:
        target = self.target
        try:
            return self.database.estimate(
                target.model,
                target.system,
                mode=what,
                backend_name=target.engine,
                database_mode=self.mode,
                isl=tokens,
                osl=2,
                batch_size=batch,
                tp_size=target.cards,
            )
        except Exception as error:  # the package raises whatever its parts raise
            said = str(error).strip().splitlines()
            reason = said[0] if said else type(error).__name__
            raise SeedError(f"{target}: {self.database.package} has no answer: {reason}") from error

    def _positive(self, name: str, answer: Any) -> float:
        value = float(getattr(answer, name))
        if not (math.isfinite(value) and value > 0):
            said = f"{self.database.package} answers {name} = {value}"
            raise SeedError(f"{self.target}: {said}")
        return value


def open_database() -> KernelDatabase:
    """The package, under whichever of its names is installed.

    Raises:
        SeedError: it is not installed, or not as it was known.

    """
    for name in PACKAGES:
        try:
            api = import_module(f"{name}.cli.api")
            shipped = resources.files(f"{name}_core")
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] in PACKAGES:
                continue
            raise SeedError(f"{name} cannot be imported: {error}; {INSTALL}") from error
        for part in (name, f"{name}_core"):
            logging.getLogger(part).setLevel(logging.ERROR)
        models = _files(shipped / "model_configs", "_config.json")
        # Beside the cards' files lie others that describe no card.
        systems = {
            name: file
            for name, file in _files(shipped / "systems", ".yaml").items()
            if "\ngpu:" in file.read_text(encoding="utf-8")
        }
        if not hasattr(api, "cli_estimate") or not models or not systems:
            raise SeedError(f"{name} is not of a version that is known; {INSTALL}")
        return KernelDatabase(
            package=f"{name} {_version(name)}",
            estimate=api.cli_estimate,
            models=frozenset(
                each.replace("--", "/") for each in models if not each.endswith("_hf_quant")
            ),
            systems=frozenset(systems),
        )
    raise SeedError(f"{PACKAGES[-1]} is not installed; {INSTALL}")


def _files(folder: Any, suffix: str) -> dict[str, Any]:
    if not folder.is_dir():
        return {}
    return {
        each.name.removesuffix(suffix): each
        for each in folder.iterdir()
        if each.name.endswith(suffix)
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"
