"""Putting entries into a file of model data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from controlloop.api.convert import perf_from_spec, spec_from_perf
from controlloop.api.files import write_document
from controlloop.api.reading import read_json
from controlloop.api.specs import ModelData
from controlloop.api.system import PerfParameters
from controlloop.errors import InputError, Problem

_FIGURES: Final = 5


def update_model_data(path: Path, entries: Sequence[PerfParameters]) -> None:
    """Add `entries` to the model data at `path`, in place of those of the same pairs.

    The file is made where it is missing; whoever reads meanwhile sees the old or the new, whole.

    Raises:
        InputError: what is there is no model data, an entry breaks a rule of the form, or the
            file cannot be written. It stays as it was.

    """
    try:
        text = path.read_bytes() if path.exists() else b'{"models": []}'
        known = [
            perf_from_spec(each) for each in read_json(ModelData, text, source=str(path)).models
        ]
        new = {(entry.model, entry.accelerator): _rounded(entry) for entry in entries}
        kept = [new.pop((each.model, each.accelerator), each) for each in known]
        specs = [spec_from_perf(each) for each in (*kept, *new.values())]
        write_document(ModelData(models=tuple(specs)), path)
    except OSError as error:
        rule = f"cannot be read or written: {error.strerror}"
        raise InputError([Problem("--write", rule, str(path))]) from error
    except ValidationError as error:
        found = [
            Problem(".".join(str(part) for part in each["loc"]), each["msg"])
            for each in error.errors()
        ]
        raise InputError(found, "entry to write") from error


def _rounded(entry: PerfParameters) -> PerfParameters:
    values = tuple(float(f"{value:.{_FIGURES}g}") for value in entry.parameters)
    return replace(entry, parameters=values)
