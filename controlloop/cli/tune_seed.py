"""`controlloop tune seed`: first parameters of a model on a card, without a benchmark."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.cli.run import Format
from controlloop.cli.tune_fit import DEFAULT_FIT_MODEL, run_model, too_small
from controlloop.errors import InputError, Problem

if TYPE_CHECKING:
    from controlloop.tuner.seed_pairs import LeftOut, Pair, SeededPair
    from controlloop.tuner.sweep_fit import RunModel


def seed(
    *,
    model: Annotated[
        str,
        typer.Option(metavar="ID|DIR", help="Model: an id, or a folder with its config.json."),
    ] = "",
    system: Annotated[str, typer.Option(metavar="NAME", help="Cards, as h100_sxm.")] = "",
    tp: Annotated[int, typer.Option(help="Cards of one replica (tensor parallelism).")] = 1,
    engine: Annotated[str, typer.Option(help="vllm, sglang or trtllm.")] = "vllm",
    seeds: Annotated[
        Path | None,
        typer.Option("--all", metavar="LIST", help="Seed all models and accelerators of a list."),
    ] = None,
    queue_model: Annotated[
        str, typer.Option(help="Queue model of what is written: its name or 'module:Factory'.")
    ] = DEFAULT_FIT_MODEL,
    max_batch: Annotated[int, typer.Option(help="Requests in service at most.")] = 128,
    at_tokens: Annotated[
        int, typer.Option(help="Output tokens that the batch is meant for.")
    ] = 512,
    model_name: Annotated[
        str, typer.Option(metavar="NAME", help="Model of the entry; default: of --model.")
    ] = "",
    acc: Annotated[
        str, typer.Option(metavar="NAME", help="Accelerator of the entry; default: --system.")
    ] = "",
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Model data: entries are added to it, or replaced."),
    ] = None,
) -> None:
    """Make first parameters, with wide uncertainty, from NVIDIA's aiconfigurator.

    It estimates engine steps from kernels measured on real cards, offline and on a CPU; queue
    models are fitted to them. They are a start until servers are measured: see `tune fit`.
    Exit code 1: the package is not installed, or knows no answer. 2: bad input.

    For example:

      controlloop tune seed --model meta-llama/Meta-Llama-3.1-8B --system h100_sxm

      controlloop tune seed --all config/seeds/list.json --write model-data.json
    """
    from controlloop.cli.tune_seed_report import pairs_document, print_pair, print_pairs
    from controlloop.cli.tune_write import update_model_data
    from controlloop.tuner.seed_pairs import Pair, SeededPair, seed_pair
    from controlloop.tuner.seed_source import Target, open_database

    models = [run_model(name) for name in dict.fromkeys((DEFAULT_QUEUE_MODEL, queue_model))]
    _check(model, system, seeds, {"--max-batch": max_batch, "--at-tokens": at_tokens})
    found: list[SeededPair | LeftOut]
    try:
        if seeds is not None:
            found = _seed_all(seeds, models, engine)
        else:
            pair = Pair(
                model=model_name or Path(model).name.lower(),
                accelerator=acc or system,
                accelerators_per_replica=1,
                target=Target(model, system, tp, engine),
                most_batch=max_batch,
                at_tokens=at_tokens,
            )
            found = [seed_pair(open_database(), pair, models)]
    except ValueError as error:
        raise InputError([Problem("--queue-model", str(error))]) from error
    seeded = [each for each in found if isinstance(each, SeededPair)]
    if write is not None and seeded:
        update_model_data(write, [each.perf(models[-1].name) for each in seeded])
    if output is Format.JSON:
        typer.echo(json.dumps(pairs_document(found), indent=2))
    elif seeds is None:
        print_pair(seeded[0])
    else:
        print_pairs(found)


def _check(model: str, system: str, seeds: Path | None, counts: Mapping[str, int]) -> None:
    problems = too_small(counts)
    for option, value in (("--model", model), ("--system", system)):
        if seeds is None and not value:
            problems.append(Problem(option, "is needed, unless --all names a list"))
        if seeds is not None and value:
            problems.append(Problem(option, "cannot be given beside --all", value))
    if problems:
        raise InputError(problems)


def _seed_all(path: Path, models: Sequence[RunModel], engine: str) -> list[SeededPair | LeftOut]:
    from controlloop.tuner.seed_list import read_seed_list
    from controlloop.tuner.seed_pairs import seed_list
    from controlloop.tuner.seed_source import open_database

    listed = read_seed_list(path)
    return list(seed_list(open_database(), listed, models, engine, _say))


def _say(pair: Pair) -> None:
    sys.stderr.write(f"estimating {pair.model} on {pair.accelerator}: {pair.target}\n")
