"""Compiles functions over arrays to machine code, and keeps it on disk where there is a place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` as machine code, compiled into every function that calls it."""
    return cast("Function", numba.njit(nogil=True)(function))


def kept(function: Function) -> Function:
    """`function` as machine code that is kept on disk, with all that it calls.

    It is made anew when its own file or a value in its closure changes, and for nothing else:
    `stamp_of_sources` in its closure stands for the functions of other files that it calls.
    """
    try:
        made = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # a file system that can be read only
        made = numba.njit(nogil=True)(function)
    return cast("Function", made)


def stamp_of_sources(folder: Path) -> int:
    """A number that changes with any source file in `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")
