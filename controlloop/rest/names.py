"""Names in paths. A name may hold `/`, written as it is or as %2F.

One name is all that follows the command. Of two names, a `/` between them is where the path
has one; where it has several, what exists decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import quote, unquote

from controlloop.errors import InputError, Problem
from controlloop.rest.tables import AmbiguousNameError, UnknownNameError

Readings: TypeAlias = tuple[tuple[str, str], ...]


def one_name(raw: str) -> str:
    """The name that `raw`, percent-encoded, stands for.

    Raises:
        InputError: it is no UTF-8 text.

    """
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise InputError([Problem("path", "must be UTF-8 text", f'"{raw}"')]) from None


def two_names(raw: str) -> Readings:
    """Every pair of names that `raw`, percent-encoded, can stand for; shortest first name first.

    Raises:
        InputError: it is no UTF-8 text.

    """
    decoded = one_name(raw)
    # A client that encodes the whole path leaves no `/` to go by.
    parts = [one_name(part) for part in raw.split("/")] if "/" in raw else decoded.split("/")
    return tuple(
        ("/".join(parts[:index]), "/".join(parts[index:])) for index in range(1, len(parts))
    )


def choose(readings: Readings, known: Callable[[str, str], bool], what: str) -> tuple[str, str]:
    """The one reading of a path that is known.

    Args:
        readings: how the path can be read.
        known: whether there is something of these two names.
        what: what that is, in words with places for both names.

    Raises:
        UnknownNameError: none is known.
        AmbiguousNameError: several are.

    """
    found = [each for each in readings if known(*each)]
    if len(found) == 1:
        return found[0]
    if found:
        ways = " or ".join(f"{quote(a, safe='')}/{quote(b, safe='')}" for a, b in found)
        raise AmbiguousNameError(f"the path has several meanings; write it as {ways}")
    if len(readings) == 1:
        raise UnknownNameError(f"there is no {what.format(*readings[0])}")
    path = "/".join(readings[0])
    raise UnknownNameError(f'there is no {what.format("...", "...")} that "{path}" can name')
