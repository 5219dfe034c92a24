"""JSON Schema of the documented forms, generated from the forms themselves."""

from __future__ import annotations

from typing import Any, Final

from controlloop.api.specs import FORMS
from controlloop.errors import InputError, Problem

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(form: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one form, with a description and a unit on every field.

    It knows the documented spelling only, while reading takes keys in any case.

    Args:
        form: its name, one of `controlloop.api.specs.FORMS`.

    Raises:
        InputError: there is no such form; names those there are.

    """
    if form not in FORMS:
        raise InputError([Problem("form", f"must be one of {', '.join(FORMS)}", f'"{form}"')])
    return {"$schema": DIALECT} | FORMS[form].model_json_schema(by_alias=True)
