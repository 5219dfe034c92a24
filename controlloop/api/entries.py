"""Long lists read entry by entry, so that the problems of a large document stay few.

Validation of a document as a whole keeps every problem in memory: a body of some megabytes of
nonsense would take gigabytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from controlloop.api.rules import join, problem_of
from controlloop.api.spec_types import Form
from controlloop.api.spelling import MOST_PROBLEMS, fields_of
from controlloop.errors import Problem

LONG_LIST: Final = 2000


def has_long_list(form: type[Form], spelled: object) -> bool:
    """Whether `spelled`, in the keys of `form`, holds a list of more than `LONG_LIST` entries."""
    if not isinstance(spelled, dict) or not _holds_lists(form):
        return False
    for field in fields_of(form).values():
        raw = spelled.get(field.key)
        if field.form is None or raw is None:
            continue
        if field.container is list and isinstance(raw, list):
            if len(raw) > LONG_LIST or any(has_long_list(field.form, each) for each in raw):
                return True
        elif field.container is None and has_long_list(field.form, raw):
            return True
    return False


def read_entries(
    form: type[Form], spelled: object, path: str
) -> tuple[object, tuple[Problem, ...]]:
    """`spelled` with the good entries of its lists as forms, and the problems of the others.

    It stops soon after `MOST_PROBLEMS`, and the last problem then says so.
    """
    reader = _Reader()
    read = reader.form(form, spelled, path)
    if reader.is_full:
        reader.problems.append(Problem(path, "has more problems than are listed"))
    return read, tuple(reader.problems)


@cache
def _holds_lists(form: type[Form]) -> bool:
    return any(
        field.form is not None and (field.container is list or _holds_lists(field.form))
        for field in fields_of(form).values()
    )


class _Reader:
    """Walks a document down to its lists."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    @property
    def is_full(self) -> bool:
        """Whether there are as many problems as anybody wants to read."""
        return len(self.problems) >= MOST_PROBLEMS

    def form(self, form: type[Form], spelled: object, path: str) -> object:
        """`spelled` with the lists in it read."""
        if not isinstance(spelled, dict) or not _holds_lists(form):
            return spelled
        read: dict[str, Any] = dict(spelled)
        for field in fields_of(form).values():
            raw = read.get(field.key)
            if field.form is None or raw is None:
                continue
            place = join(path, field.key)
            if field.container is list and isinstance(raw, list):
                read[field.key] = self._entries(field.form, raw, place)
            elif field.container is None:
                read[field.key] = self.form(field.form, raw, place)
        return read

    def _entries(self, form: type[Form], raw: list[Any], path: str) -> list[Form]:
        good: list[Form] = []
        for index, entry in enumerate(raw):
            if self.is_full:
                break
            place = join(path, index)
            try:
                good.append(form.model_validate(self.form(form, entry, place)))
            except ValidationError as error:
                found = error.errors(include_url=False)
                self.problems += [problem_of(each, place) for each in found]
        return good
