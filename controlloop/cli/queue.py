"""`controlloop queue`: one replica's queueing model, for JSON documents and as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from controlloop.api.files import STDIN, read_bytes
from controlloop.api.json_text import parse_json
from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.errors import InputError, Problem

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_File = Annotated[
    str, typer.Argument(metavar="FILE|-", help="JSON list of inputs; '-' is standard input.")
]
_Model = Annotated[str, typer.Option("--model", help="Queue model: its name, or 'module:Factory'.")]


@app.command(
    epilog="""Examples:

    controlloop queue analyze inputs.json

    jq '[.vectors[].input]' vectors.json | controlloop queue analyze -
    """
)
def analyze(file: _File, *, model: _Model = DEFAULT_QUEUE_MODEL) -> None:
    """Predict one replica at a given arrival rate.

    Input: max_batch, max_queue (missing: ten batches), input_tokens, output_tokens, the model's
    parameters (alpha_ms, beta_ms, gamma_ms, delta_ms) and rate_rps in requests/s.

    Answer: throughput_rps, response_ms, wait_ms, in_service, prefill_ms, itl_ms, max_rate_rps
    and utilization; or error, where the input is bad or its rate is above max_rate_rps.

    Exit code 0: each input has its answer, in order. 2: the file is no JSON list.
    """
    from controlloop.queueing.documents import analyze_documents

    _answer(file, model, analyze_documents)


@app.command(
    epilog="""Examples:

    controlloop queue size inputs.json

    jq '[.[] | .target_itl_ms = 50]' inputs.json | controlloop queue size -
    """
)
def size(file: _File, *, model: _Model = DEFAULT_QUEUE_MODEL) -> None:
    """Find the largest arrival rate of one replica within its targets.

    Input: as for analyze (rate_rps may be missing), with target_ttft_ms, target_itl_ms and
    target_tps; 0 or missing is no target.

    Answer: rate_ttft_rps, rate_itl_rps, rate_tps_rps, which each target allows, and at, the
    analysis at the least of them; or error, where the input is bad or a target unreachable.

    Exit code 0: each input has its answer, in order. 2: the file is no JSON list.
    """
    from controlloop.queueing.documents import size_documents

    _answer(file, model, size_documents)


@app.command(
    epilog="""Examples:

    controlloop queue plot config/sample/replica.json -o replica.png

    jq '.[0]' inputs.json | controlloop queue plot - -o replica.svg
    """
)
def plot(
    file: _File,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture, PNG or SVG by its suffix.")
    ],
    model: _Model = DEFAULT_QUEUE_MODEL,
) -> None:
    """Draw TTFT, ITL and throughput of one replica over the rate and over the batch size.

    Input: one object as for size, or a list of one. Targets and the sized point are marked; the
    batch size is varied at rate_rps, else at the sized rate.

    Exit code 2: bad input, or the picture cannot be written.
    """
    from controlloop.cli.queue_plot import draw, portray
    from controlloop.queueing.models import queue_models

    found, source = _read(file)
    questions = found if isinstance(found, list) else [found]
    if len(questions) != 1 or not isinstance(questions[0], dict):
        raise InputError([Problem("", "must be one input, an object or a list of one")], source)
    question = {key.lower(): value for key, value in questions[0].items()}
    try:
        portrait = portray(question, queue_models().create(model))
    except InputError as error:
        raise InputError(error.problems, source) from error
    try:
        draw(portrait, output)
    except OSError as error:
        rule = f"cannot be written: {error.strerror}"
        raise InputError([Problem("--output", rule, str(output))]) from error


def _answer(file: str, model: str, work: Callable[..., list[dict[str, Any]]]) -> None:
    """Print the answers, one a line of a JSON list.

    Raises:
        InputError: the file cannot be read or is no JSON list.
        UnknownPluginError: no such model.

    """
    from controlloop.queueing.models import queue_models

    documents, source = _read(file)
    if not isinstance(documents, list):
        raise InputError([Problem("", "must be a JSON list of inputs")], source)
    lines = [json.dumps(each) for each in work(documents, queue_models().create(model))]
    typer.echo("[\n" + ",\n".join(lines) + "\n]" if lines else "[]")


def _read(file: str) -> tuple[object, str]:
    """What JSON a file or standard input holds, and what to call it in messages.

    Raises:
        InputError: it cannot be read, or is no JSON.

    """
    source = "standard input" if file == STDIN else file
    return parse_json(read_bytes(file), source), source
