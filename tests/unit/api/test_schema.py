"""JSON Schema generated from the forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from controlloop.api.files import PARTS
from controlloop.api.schema import json_schema
from controlloop.api.specs import FORMS
from controlloop.errors import InputError

UNITS = re.compile(
    r"\b(ms|s|W|GB|GB/s|cents/hour|requests/minute|tokens|tokens/s|count|fraction|without unit"
    r"|units?|true or false|a list)\b|missing is"
)


def errors(form: str, document: object) -> list[str]:
    return [each.message for each in Draft202012Validator(json_schema(form)).iter_errors(document)]


@pytest.mark.parametrize("form", FORMS)
def test_every_schema_is_one_and_tells_each_fields_meaning_and_unit(form: str) -> None:
    schema = json_schema(form)
    Draft202012Validator.check_schema(schema)

    def fields() -> Iterator[tuple[str, dict[str, Any]]]:
        for part in (schema, *schema.get("$defs", {}).values()):
            yield from part.get("properties", {}).items()

    for name, field in fields():
        assert UNITS.search(field.get("description", "")), f"{name}: {field}"


@pytest.mark.parametrize("name", PARTS)
def test_samples_are_valid(name: str, root: Path, shared_data: Callable[[str], Path]) -> None:
    form = PARTS[name][0].__name__
    for folder in (root / "config" / "sample", shared_data("sample/small")):
        assert errors(form, json.loads((folder / name).read_text())) == []


def test_a_published_system_and_solution_are_valid(shared_json: Callable[[str], Any]) -> None:
    assert errors("SystemData", shared_json("sample/small/system-data.json")) == []
    assert errors("AllocationSolution", shared_json("sample/small/solution-data.json")) == []


def test_bounds_types_and_required_keys_are_in_the_schema() -> None:
    assert errors("LoadSpec", {"arrivalRate": -1}) == ["-1 is less than the minimum of 0"]
    assert errors("ServerSpec", {"name": "s"}) == ["'model' is a required property"]
    assert errors("AcceleratorCount", {"type": "t", "count": "3"}) == [
        "'3' is not of type 'integer'"
    ]
    assert len(errors("OptimizerSpec", {"saturationPolicy": "some"})) == 1


def test_an_unknown_form_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r'must be one of AcceleratorSpec, .* got "Server"'):
        json_schema("Server")
