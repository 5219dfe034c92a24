"""State that survives a restart: read back whole or set aside, never fatal to a cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from controlloop.errors import InputError, StateStoreError
from controlloop.protocols import StateStore

T = TypeVar("T")


def load_kept(
    store: StateStore, decode: Callable[[bytes], T], no_good: str, anew: str
) -> tuple[T | None, tuple[str, ...]]:
    """What is kept, None where nothing usable is, and remarks.

    Args:
        store: where it is kept.
        decode: reads it; raises InputError for what is torn, of another version or something else.
        no_good: begins the remark that it was set aside, and where it is now.
        anew: begins the remark that the store does not answer.

    """
    try:
        state = store.load()
        if state is None:
            return None, ()
        try:
            return decode(state), ()
        except InputError as error:
            aside = store.set_aside()
            problem = str(error).replace("\n", "; ")
            return None, (f"{no_good} {aside}: {problem}",)
    except StateStoreError as error:
        return None, (f"{anew}: {error}",)


def save_kept(store: StateStore, state: bytes, not_kept: str) -> tuple[str, ...]:
    """Keep `state`; a remark where that failed, since the cycle is none the worse for it."""
    try:
        store.save(state)
    except StateStoreError as error:
        return (f"{not_kept}: {error}",)
    return ()
