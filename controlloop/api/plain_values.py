"""Domain values as what JSON has, and back: for files that this program writes and reads itself.

Frozen dataclasses become objects without the fields that have their default; of a union of
dataclasses the class is named under `is`. What comes back equals what went in.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from controlloop.errors import InputError, Problem

T = TypeVar("T")
KIND = "is"
_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_plain(value: object, *, named: bool = False) -> Any:
    """`value` in dicts, lists, strings, numbers, booleans and None.

    Args:
        value: a dataclass, or what the fields of one hold.
        named: whether a dataclass is to name its class, since several may stand in its place.

    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return {str(each): name for name, each in _NO_NUMBERS.items()}[str(value)]
    if is_dataclass(value) and not isinstance(value, type):
        found = {KIND: type(value).__name__} if named else {}
        hints = _hints(type(value))
        for field in fields(value):
            item = getattr(value, field.name)
            if not _is_default(field, item):
                found[field.name] = to_plain(item, named=len(_classes(hints[field.name])) > 1)
        return found
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], plain: object, path: str = "") -> T:
    """The value of type `kind` that `to_plain` was given.

    Raises:
        InputError: `plain` is none; path, rule and what was found.

    """
    return cast("T", _read(kind, plain, path))


def _read(kind: Any, plain: object, path: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(kind, plain, path)
    if is_dataclass(kind):
        return _read_dataclass(cast("type", kind), plain, path)
    if origin is tuple:
        return _read_tuple(get_args(kind), plain, path)
    if origin is not None and issubclass(origin, Mapping):
        key_kind, item_kind = get_args(kind)
        items = _checked(plain, dict, "an object", path)
        return {
            _read(key_kind, key, path): _read(item_kind, item, f"{path}.{key}".lstrip("."))
            for key, item in items.items()
        }
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(plain)
        except ValueError:
            known = ", ".join(str(each.value) for each in kind)
            raise _wrong(path, f"must be one of {known}", plain) from None
    return _read_simple(kind, plain, path)


def _read_simple(kind: Any, plain: object, path: str) -> Any:
    if kind is float:
        if isinstance(plain, str) and plain in _NO_NUMBERS:
            return _NO_NUMBERS[plain]
        if isinstance(plain, (int, float)) and not isinstance(plain, bool):
            return float(plain)
        raise _wrong(path, "must be a number", plain)
    if kind is int and isinstance(plain, bool):
        raise _wrong(path, "must be a whole number", plain)
    names = {int: "a whole number", bool: "true or false", str: "a text", type(None): "null"}
    return _checked(plain, kind, names[kind], path)


def _read_union(kind: Any, plain: object, path: str) -> Any:
    choices = get_args(kind)
    if plain is None and type(None) in choices:
        return None
    classes = _classes(kind)
    if len(classes) > 1:
        given = _checked(plain, dict, "an object", path).get(KIND)
        found = next((each for each in classes if each.__name__ == given), None)
        if found is None:
            known = " or ".join(each.__name__ for each in classes)
            raise _wrong(f"{path}.{KIND}".lstrip("."), f"must be {known}", given)
        return _read_dataclass(found, plain, path)
    (choice,) = (each for each in choices if each is not type(None))
    return _read(choice, plain, path)


def _read_dataclass(kind: type, plain: object, path: str) -> Any:
    items = _checked(plain, dict, "an object", path)
    hints = _hints(kind)
    unknown = sorted(items.keys() - hints.keys() - {KIND})
    if unknown:
        raise _wrong(f"{path}.{unknown[0]}".lstrip("."), "is not a field", items[unknown[0]])
    given = {
        name: _read(hints[name], item, f"{path}.{name}".lstrip("."))
        for name, item in items.items()
        if name != KIND
    }
    missing = [
        each.name
        for each in fields(kind)
        if each.name not in given and each.default is MISSING and each.default_factory is MISSING
    ]
    if missing:
        raise InputError([Problem(f"{path}.{name}".lstrip("."), "is missing") for name in missing])
    return kind(**given)


def _read_tuple(kinds: tuple[Any, ...], plain: object, path: str) -> tuple[Any, ...]:
    items = _checked(plain, list, "a list", path)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(items)
    if len(kinds) != len(items):
        raise _wrong(path, f"must have {len(kinds)} entries", len(items))
    return tuple(
        _read(kind, item, f"{path}[{at}]")
        for at, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _checked(plain: object, kind: type[T], name: str, path: str) -> T:
    if not isinstance(plain, kind):
        raise _wrong(path, f"must be {name}", plain)
    return plain


def _wrong(path: str, rule: str, plain: object) -> InputError:
    return InputError([Problem(path, rule, f"{plain!r:.80}")])


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default is not MISSING:
        return type(value) is type(field.default) and bool(value == field.default)
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return False


def _classes(kind: Any) -> tuple[type, ...]:
    """The dataclasses that a union is made of; none where it is no union."""
    if get_origin(kind) not in (Union, types.UnionType):
        return ()
    return tuple(each for each in get_args(kind) if is_dataclass(each) and isinstance(each, type))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
