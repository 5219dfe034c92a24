"""Problems in plain words: the path, the rule that a value breaks, the value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from controlloop.errors import Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LONGEST_VALUE: Final = 60
_PLAIN_KEY: Final = re.compile(r"[\w-]+")

_RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "is required",
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "string_type": "must be a string",
        "string_unicode": "must be Unicode text",
        "string_too_short": "must not be empty",
        "too_short": "must not be empty",
        "tuple_type": "must be a list",
        "dict_type": "must be an object",
        "model_type": "must be an object",
        "finite_number": "must be a finite number",
        "greater_than": "must be > {gt:.12g}",
        "greater_than_equal": "must be >= {ge:.12g}",
        "less_than": "must be < {lt:.12g}",
        "less_than_equal": "must be <= {le:.12g}",
        "enum": "must be {expected}",
        "literal_error": "must be {expected}",
    }
)


def join(path: str, key: str | int) -> str:
    """The path of what stands at `key` (a key of an object, or a list's index) below `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{_json(key)}]"
    return f"{path}.{key}" if path else key


def shown(value: object) -> str:
    """`value` as it stands in JSON, cut where it is long."""
    try:
        text = _json(value)
    except (RecursionError, ValueError):  # an alias of YAML may point back to where it stands
        return "a deeply nested value"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _json(value: object) -> str:
    # Half a surrogate pair is a string to JSON, and breaks whoever prints it.
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text.encode(errors="backslashreplace").decode()


def problem_of(error: ErrorDetails, path: str = "") -> Problem:
    """One error of pydantic as a problem at its place below `path`."""
    for key in error["loc"]:
        path = join(path, key)
    kind = error["type"]
    if kind == "missing":
        return Problem(path, _RULES[kind])
    rule = _RULES[kind].format(**error.get("ctx", {})) if kind in _RULES else error["msg"]
    return Problem(path, rule, shown(error["input"]))
