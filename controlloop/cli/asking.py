"""What `optimize` and `explain` are asked about: a system, other flags, other loads and cards."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

import typer

from controlloop.api.convert import options_from_spec, spec_from_options, system_from_spec
from controlloop.api.explanation import Explanation
from controlloop.api.files import read_system
from controlloop.api.reading import UnknownKeys, read_optimizer
from controlloop.api.references import check_references
from controlloop.api.solution import Solution
from controlloop.api.system import OptimizerOptions, System
from controlloop.errors import InputError, Problem

PathArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="PATH", help="Folder of the data files, one file of all, or - for stdin."
    ),
]
FlagsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FLAG=VALUE",
        help="A flag of optimizer-data.json, instead of what the data says; repeatable.",
    ),
]
ScaleOption: TypeAlias = Annotated[
    float | None, typer.Option(metavar="F", help="What if all loads were F times what they are?")
]
WhatIfOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CHANGE",
        help="What if? capacity.TYPE=+8 (cards), cost.ACCELERATOR=250 (cents/h) or"
        " load.SERVER=x2 (req/min); VALUE, +VALUE, -VALUE or xVALUE; repeatable.",
    ),
]
TimeLimitOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Seconds after which an exact solver ends with the best answer found; without it"
        " what the data says (timeLimit), else 10.",
    ),
]
GapOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="G",
        help="Gap to the best possible at which an exact solver may end: 0.001 is 0.1 % of the"
        " total value; without it what the data says (gap), else 0, which is proof.",
    ),
]
ConfidenceOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Probability from 0.5 to below 1 with which latency targets are to hold whatever the"
        " parameters are, where the data says how sure they are (logCovariance); without it what"
        " the data says (confidence), else 0, which takes them as they are.",
    ),
]
QueueModelOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Queue model of performance data that names none: its name or 'module:Factory'."
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A system as it is, and as it would be; the same one where nothing is changed."""

    now: System
    then: System
    changed: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds exact solvers, and how sure an answer must be; None leaves it to the data."""

    time_limit_s: float | None
    gap: float | None
    confidence: float | None = None

    def over(self, options: OptimizerOptions) -> OptimizerOptions:
        """`options` with these limits instead of their own."""
        given = replace(options, time_limit_s=self.time_limit_s, gap=self.gap)
        if self.confidence is not None:
            given = replace(given, confidence=self.confidence)
        return given.limited_by(options.time_limit_s, options.gap)


def read_limits(
    time_limit: float | None, gap: float | None, confidence: float | None = None
) -> Limits:
    """The limits of `--time-limit`, `--gap` and `--confidence`.

    Raises:
        InputError: they are not within their bounds.

    """
    given = {
        "--time-limit": ("timeLimit", time_limit),
        "--gap": ("gap", gap),
        "--confidence": ("confidence", confidence),
    }
    problems: list[Problem] = []
    for option, (key, value) in given.items():
        try:
            read_optimizer({} if value is None else {key: value})
        except InputError as error:
            problems += [replace(each, path=option) for each in error.problems]
    if problems:
        raise InputError(problems)
    return Limits(time_limit, gap, confidence)


def warn(solution: Solution | Explanation, of: str = "") -> None:
    """Say on stderr what there is to know of how an answer was found."""
    if solution.message:
        typer.echo(f"warning: {of}{solution.message}", err=True)


def ask(
    path: str,
    flags: list[str] | None,
    scale: float | None,
    what_if: list[str] | None,
    queue_model: str,
    limits: Limits,
) -> Asked:
    """Read the system at `path` and change it as asked; names that lead nowhere are warnings.

    Raises:
        InputError: every problem of the data, or of the flags, or of the changes.
        UnknownPluginError: no such queue model, or what has that name is none.

    """
    from controlloop.queueing.models import queue_models

    system = system_from_spec(read_system(path))
    queue_models().create(queue_model)
    options = _with_flags(system.options, flags or [])
    system = replace(system, options=limits.over(options))
    system = system.with_queue_model(queue_model)
    for warning in check_references(system):
        typer.echo(f"warning: {warning}", err=True)
    then = _changed(system, scale, what_if or [])
    return Asked(system, then, changed=scale is not None or bool(what_if))


def _changed(system: System, scale: float | None, changes: list[str]) -> System:
    """The system as it would be.

    Raises:
        InputError: every problem of the scale and the changes.

    """
    from controlloop.optimizer.what_if import changed, scaled

    problems: list[Problem] = []
    if scale is not None:
        try:
            system = scaled(system, scale)
        except InputError as error:
            problems += _as_options(error)
    try:
        system = changed(system, changes)
    except InputError as error:
        problems += _as_options(error)
    if problems:
        raise InputError(problems)
    return system


def _as_options(error: InputError) -> list[Problem]:
    """The problems, named as the options are that were given."""
    return [replace(each, path=f"--{each.path}") for each in error.problems]


def _with_flags(options: OptimizerOptions, flags: list[str]) -> OptimizerOptions:
    """`options` with those of the command line.

    Raises:
        InputError: every flag that is not known, or whose value is not one of its own.

    """
    if not flags:
        return options
    given: dict[str, object] = {}
    for flag in flags:
        key, found, text = flag.partition("=")
        if not found:
            raise InputError([Problem(f"--set {flag}", "must be FLAG=VALUE")])
        try:
            given[key] = json.loads(text)
        except (ValueError, RecursionError):  # no JSON, or too deep or long
            given[key] = text
    lowered = {key.lower() for key in given}
    known = spec_from_options(options).document()
    kept = {key: value for key, value in known.items() if key.lower() not in lowered}
    spec = read_optimizer({**kept, **given}, unknown=UnknownKeys.REJECT, source="--set")
    return options_from_spec(spec)
