"""Compiles functions over arrays to machine code, and keeps it on disk where there is a place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` as machine code, compiled into every function that calls it."""
    return cast("Function", numba.njit(nogil=True)(function))


def kept(function: Function) -> Function:
    """`function` as machine code that is kept on disk, with all that it calls.

    It is made anew when its own file or a value in its closure changes, and for nothing else:
    `stamp_of_sources` in its closure stands for the functions of other files that it calls.
    """
    made: Any = numba.njit(nogil=True)(function)
    with suppress(RuntimeError):  # a file system that can be read only
        made._cache = cast("Any", _ForgivingCache)(function)  # noqa: SLF001 - no other way in
    return cast("Function", made)


class _ForgivingCache(FunctionCache):
    """What a crash left half written, or finds no room on disk, costs time and no answer."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        numbas: Any = super()
        try:
            return numbas.load_overload(sig, target_context)
        except Exception:  # noqa: BLE001 - torn pickles raise nearly anything
            with suppress(OSError):
                numbas.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        numbas: Any = super()
        with suppress(OSError):
            numbas.save_overload(sig, data)


def stamp_of_sources(folder: Path) -> int:
    """A number that changes with any source file in `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")
