"""JSON documents to forms: keys in any case, every problem of a document at once."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from controlloop.api.entries import has_long_list, read_entries
from controlloop.api.json_text import parse_json
from controlloop.api.rules import problem_of
from controlloop.api.spec_types import Form
from controlloop.api.specs import OptimizerData, OptimizerSpec
from controlloop.api.spelling import UnknownKeys, spell
from controlloop.errors import InputError

__all__ = ["UnknownKeys", "read", "read_json", "read_optimizer"]

AnyForm = TypeVar("AnyForm", bound=Form)


def read(
    form: type[AnyForm],
    document: object,
    *,
    unknown: UnknownKeys = UnknownKeys.IGNORE,
    source: str = "",
    path: str = "",
) -> AnyForm:
    """`document` (what a JSON parser gives) as `form`. A null value counts as missing.

    Args:
        form: the form it should have.
        document: the raw values; keys may be written in any case.
        unknown: what becomes of keys that the form does not have.
        source: name of the file, for the message.
        path: where the document stands in a greater one, for the paths of problems.

    Raises:
        InputError: every problem of the document, with path, rule and value; of one with a long
            list, the first `MOST_PROBLEMS` or so.

    """
    spelled, problems = spell(form, document, path, unknown)
    if has_long_list(form, spelled):
        spelled, more = read_entries(form, spelled, path)
        problems = (*problems, *more)
    try:
        result = form.model_validate(spelled)
    except ValidationError as error:
        found = [problem_of(each, path) for each in error.errors(include_url=False)]
        raise InputError((*problems, *found), source) from None
    if problems:
        raise InputError(problems, source)
    return result


def read_json(
    form: type[AnyForm],
    text: str | bytes,
    *,
    unknown: UnknownKeys = UnknownKeys.IGNORE,
    source: str = "",
) -> AnyForm:
    """JSON `text` as `form`; see `read`.

    Raises:
        InputError: a syntax error with line and column, or every problem of the document.

    """
    return read(form, parse_json(text, source), unknown=unknown, source=source)


def read_optimizer(
    document: object, *, unknown: UnknownKeys = UnknownKeys.IGNORE, source: str = ""
) -> OptimizerSpec:
    """The optimizer's flags, bare or within the `{"optimizer": {...}}` wrapper.

    Raises:
        InputError: every problem of the document.

    """
    if isinstance(document, dict) and any(key.lower() == "optimizer" for key in document):
        return read(OptimizerData, document, unknown=unknown, source=source).optimizer
    return read(OptimizerSpec, document, unknown=unknown, source=source)
