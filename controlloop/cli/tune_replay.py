"""`controlloop tune replay`: recorded observations through the tuner that runs in the loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controlloop.api.system import PerfParameters
from controlloop.cli.run import Format
from controlloop.errors import InputError, Problem

if TYPE_CHECKING:
    from controlloop.tuner.recordings import Recorded
    from controlloop.tuner.replay import Replay
    from controlloop.tuner.tuning import Tuning

TABLES = (".json", ".csv")
# Keys and values of a token alone are thirty times as large in one model as in another.
COMMON_VALUES_DOUBT: Final[Mapping[str, float]] = MappingProxyType(
    {"roofline": 1.2, "iteration-time": 1.2}
)
"""Standard deviation of the logarithm of each parameter by itself where common values are not
as near as what is configured, by queue model."""


def replay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Observations as JSON or CSV, or metrics as JSON lines (also as .gz).",
        ),
    ],
    *,
    model_data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Model data with the parameters to start from."),
    ] = None,
    queue_model: Annotated[
        str,
        typer.Option(help="Without --model-data: learn this queue model, from common values."),
    ] = "roofline",
    max_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Requests in service at most, where the file does not say."),
    ] = None,
    input_tokens: Annotated[
        float | None,
        typer.Option(min=0, help="Mean input tokens, where the file does not say."),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds that an observation covers; of metrics: the window."),
    ] = None,
    model_name: Annotated[
        str, typer.Option(metavar="NAME", help="Model, where the file does not say.")
    ] = "model",
    acc: Annotated[
        str, typer.Option(metavar="NAME", help="Accelerator, where the file does not say.")
    ] = "accelerator",
    trajectory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what was known after each observation: .json, .csv."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of it, PNG or SVG by its suffix.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Learn parameters from a recording, one observation after the other.

    Each observation is first predicted and then learned, by the code that runs in the loop.
    Prints for each pair of model and accelerator what was learned, with standard errors, whether
    it may be trusted, what was turned away and why, and how far predictions were off over the
    second half. Exit code 2: the file or an option is wrong.

    For example:

      controlloop tune replay observations.json --plot learned.png

      controlloop tune replay metrics.jsonl.gz --max-batch 16 --trajectory learned.csv
    """
    from controlloop.cli.picture_style import check_suffix
    from controlloop.cli.tune_recordings import read_recording
    from controlloop.cli.tune_replay_report import print_replay, replay_document, write_trajectory
    from controlloop.tuner.belief import Doubt
    from controlloop.tuner.recordings import Assumed
    from controlloop.tuner.tuning import Tuning

    if plot is not None:
        check_suffix(plot, "--plot")
    if trajectory is not None and trajectory.suffix.lower() not in TABLES:
        rule = f"must end in {' or '.join(TABLES)}"
        raise InputError([Problem("--trajectory", rule, str(trajectory))])
    assumed = Assumed(model_name, acc, max_batch, input_tokens, interval)
    recorded = read_recording(file, assumed)
    own = COMMON_VALUES_DOUBT.get(queue_model) if model_data is None else None
    doubt = Doubt() if own is None else Doubt(own=own)
    found = _run(recorded, _start(recorded, model_data, queue_model), Tuning(doubt=doubt))
    if trajectory is not None:
        _written(lambda: write_trajectory(found, trajectory), "--trajectory", trajectory)
    if plot is not None:
        from controlloop.cli.tune_replay_picture import draw

        _written(lambda: draw(found, plot), "--plot", plot)
    if output is Format.JSON:
        typer.echo(json.dumps(replay_document(found), indent=2))
    else:
        print_replay(found)


def _run(recorded: Sequence[Recorded], perf: Sequence[PerfParameters], tuning: Tuning) -> Replay:
    from rich.console import Console
    from rich.progress import Progress

    from controlloop.queueing.models import queue_models
    from controlloop.tuner.replay import replay as run

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("observations", total=len(recorded))
        return run(
            recorded,
            perf,
            queue_models(),
            tuning,
            lambda done: progress.update(task, completed=done),
        )


def _start(
    recorded: Sequence[Recorded], model_data: Path | None, queue_model: str
) -> list[PerfParameters]:
    """The pairs with the parameters to start from.

    Raises:
        InputError: the model data is none, or nothing is known of the queue model.
        UnknownPluginError: no such queue model.

    """
    if model_data is not None:
        return _read_model_data(model_data)
    from controlloop.queueing.models import queue_models
    from controlloop.tuner.sweep_fit import PRIORS

    model = queue_models().create(queue_model)
    common = PRIORS.get(model.name, {})
    missing = [name for name in model.parameter_names if name not in common]
    if missing:
        rule = f"has no common values of {', '.join(missing)}: give --model-data"
        raise InputError([Problem("--queue-model", rule, queue_model)])
    return [
        PerfParameters(
            model=pair[0],
            accelerator=pair[1],
            parameters=tuple(common[name] for name in model.parameter_names),
            max_batch=1,
            at_tokens=1,
            queue_model=queue_model,
            parameter_names=model.parameter_names,
        )
        for pair in dict.fromkeys(one.sample.pair for one in recorded)
    ]


def _read_model_data(path: Path) -> list[PerfParameters]:
    from controlloop.api.convert import perf_from_spec
    from controlloop.api.reading import read_json
    from controlloop.api.specs import ModelData

    try:
        text = path.read_bytes()
    except OSError as error:
        rule = f"cannot be read: {error.strerror}"
        raise InputError([Problem("--model-data", rule, str(path))]) from error
    return [perf_from_spec(each) for each in read_json(ModelData, text, source=str(path)).models]


def _written(write: Callable[[], None], option: str, path: Path) -> None:
    try:
        write()
    except OSError as error:
        rule = f"cannot be written: {error.strerror}"
        raise InputError([Problem(option, rule, str(path))]) from error
