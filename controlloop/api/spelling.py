"""The keys of a JSON document, written in any case, put into the documented spelling.

One walk over the document, driven by the forms themselves; it also finds what validation of
values cannot: keys given twice, unknown keys, entries of a list that should differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo

from controlloop.api.json_text import JsonObject
from controlloop.api.rules import join, shown
from controlloop.api.spec_types import Form, Unique
from controlloop.errors import Problem

# More problems than these help nobody, and of a large input they would fill the memory.
MOST_PROBLEMS: Final = 1000


class UnknownKeys(StrEnum):
    """What becomes of keys that a form does not have."""

    IGNORE = "ignore"
    REJECT = "reject"


def spell(
    form: type[Form], document: object, path: str, unknown: UnknownKeys
) -> tuple[object, tuple[Problem, ...]]:
    """`document` with the keys that `form` documents, and what is wrong with its keys.

    Null values are left out. `path` is where the document stands, for the problems, of which
    the first `MOST_PROBLEMS` are noted.
    """
    speller = _Speller(unknown)
    return speller.form(form, document, path), tuple(speller.problems)


@dataclass(frozen=True, slots=True)
class FieldShape:
    """What reading needs to know of one field: its documented key and what stands there.

    `form` stands there itself (`container` None), or in a list or an object of such; None is
    a value without keys of its own.
    """

    key: str
    container: type | None
    form: type[Form] | None
    unique: tuple[str, ...]
    null_if_missing: bool


def _shape(key: str, info: FieldInfo) -> FieldShape:
    kind: Any = info.annotation
    if NoneType in get_args(kind):
        # Of unions there is only `X | None`.
        kind = next(each for each in get_args(kind) if each is not NoneType)
    container = {tuple: list, dict: dict}.get(get_origin(kind))
    inner = kind
    if container is not None:
        inner = get_args(kind)[1 if container is dict else 0]
    form = inner if isinstance(inner, type) and issubclass(inner, Form) else None
    unique = next((each.keys for each in info.metadata if isinstance(each, Unique)), ())
    return FieldShape(key, container, form, unique, null_if_missing=bool(info.validate_default))


@cache
def fields_of(form: type[Form]) -> dict[str, FieldShape]:
    """The fields of a form by their documented key in lower case."""
    named = {info.alias or name: info for name, info in form.model_fields.items()}
    return {key.lower(): _shape(key, info) for key, info in named.items()}


class _Speller:
    """Puts a document's keys into the documented spelling, noting what is wrong with them."""

    def __init__(self, unknown: UnknownKeys) -> None:
        self._reject = unknown is UnknownKeys.REJECT
        self.problems: list[Problem] = []

    @property
    def _full(self) -> bool:
        return len(self.problems) >= MOST_PROBLEMS

    def _note(self, *problems: Problem) -> None:
        self.problems += problems[: MOST_PROBLEMS - len(self.problems)]

    def form(self, form: type[Form], raw: object, path: str) -> object:
        """`raw` as `form` spells it; what is no object stays as it is."""
        if not isinstance(raw, dict):
            return raw
        fields = fields_of(form)
        spelling: dict[str, str] = {}
        spelled: dict[str, Any] = {}
        self._note_repeated(raw, path)
        for written, each in raw.items():
            field = fields.get(written.lower())
            if field is None:
                self._note_unknown(written, fields, path)
            elif field.key in spelling:
                rule = f"is given twice, as {spelling[field.key]} and as {written}"
                self._note(Problem(join(path, field.key), rule))
            else:
                spelling[field.key] = written
                if each is not None:
                    spelled[field.key] = self._value(field, each, path)
        for field in fields.values():
            # Given, so that an error about its absence names it as documented.
            if field.null_if_missing:
                spelled.setdefault(field.key, None)
        return spelled

    def _value(self, field: FieldShape, raw: object, path: str) -> object:
        if field.container is None and field.form is None:
            return raw
        path = join(path, field.key)
        if field.container is dict and isinstance(raw, dict):
            self._note_repeated(raw, path)
            if field.form is None and len(raw) > MOST_PROBLEMS:
                self._note(Problem(path, f"must have at most {MOST_PROBLEMS} keys"))
                return {}
            return {key: self._entry(field, each, path, key) for key, each in raw.items()}
        if field.container is list and isinstance(raw, list):
            entries = [self._entry(field, each, path, i) for i, each in enumerate(raw)]
            self._note_equal(field, entries, path)
            return entries
        if field.container is None and field.form is not None:
            return self.form(field.form, raw, path)
        return raw

    def _entry(self, field: FieldShape, raw: object, path: str, key: str | int) -> object:
        return raw if field.form is None else self.form(field.form, raw, join(path, key))

    def _note_repeated(self, raw: dict[str, Any], path: str) -> None:
        if isinstance(raw, JsonObject):
            repeated = raw.repeated[:MOST_PROBLEMS]
            given = [Problem(join(path, key), "is given twice") for key in repeated]
            self._note(*given)

    def _note_unknown(self, written: str, fields: dict[str, FieldShape], path: str) -> None:
        if not self._reject or self._full:
            return
        near = get_close_matches(written.lower(), fields, n=1, cutoff=0.5)
        known = ", ".join(field.key for field in fields.values())
        hint = f"did you mean {fields[near[0]].key}?" if near else f"known are {known}"
        self._note(Problem(join(path, written), f"is not a known key; {hint}"))

    def _note_equal(self, field: FieldShape, entries: list[object], path: str) -> None:
        first: dict[tuple[str, ...], int] = {}
        for index, entry in enumerate(entries):
            values = [entry.get(key) for key in field.unique] if isinstance(entry, dict) else []
            texts = tuple(value for value in values if isinstance(value, str))
            if not texts or len(texts) != len(field.unique):
                continue
            before = first.setdefault(texts, index)
            if before != index and not self._full:
                single = len(texts) == 1
                place = join(path, index)
                rule = f"{' and '.join(field.unique)} must be unique together, but"
                self._note(
                    Problem(
                        join(place, field.unique[0]) if single else place,
                        f"{'must be unique, but' if single else rule} {join(path, before)} "
                        f"has {'it' if single else 'them'} too",
                        ", ".join(shown(text) for text in texts),
                    )
                )
