"""Immutable tables of things by name; every change makes a new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from controlloop.errors import ControlLoopError

Entry = TypeVar("Entry")


class UnknownNameError(ControlLoopError):
    """A command names what is not there."""


class AmbiguousNameError(ControlLoopError):
    """Two names in a path can be told apart in more than one way."""


def table(entries: Iterable[tuple[str, Entry]]) -> Mapping[str, Entry]:
    """A table of `entries`, in their order."""
    return MappingProxyType(dict(entries))


def empty() -> Mapping[str, Any]:
    """A table of nothing."""
    return MappingProxyType({})


def put(old: Mapping[str, Entry], name: str, entry: Entry) -> Mapping[str, Entry]:
    """`old` with `entry` under `name`: in its place if there was one, else at the end."""
    return MappingProxyType({**old, name: entry})


def without(old: Mapping[str, Entry], name: str) -> Mapping[str, Entry]:
    """`old` without `name`."""
    return MappingProxyType({key: entry for key, entry in old.items() if key != name})


def find(entries: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """What stands under `name`.

    Raises:
        UnknownNameError: nothing does.

    """
    if name not in entries:
        raise UnknownNameError(f'there is no {kind} "{name}"')
    return entries[name]
