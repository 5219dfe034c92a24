"""What was made of objects, kept for as long as they stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """Values by uid, each with the basis that it was made on; of one thread."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Hashable, T]] = {}
        self._asked: set[str] = set()

    def of(self, uid: str, basis: Hashable, make: Callable[[], T]) -> T:
        """The value of `uid` on `basis`, made anew where that is another than before.

        Args:
            uid: of the object that it is made of.
            basis: everything that it is made of, or the versions of that.
            make: makes it.

        """
        known = self._known.get(uid)
        if known is None or known[0] != basis:
            known = basis, make()
            self._known[uid] = known
        self._asked.add(uid)
        return known[1]

    def forget_others(self) -> None:
        """Forget what was not asked for since the last time this was called."""
        for uid in self._known.keys() - self._asked:
            del self._known[uid]
        self._asked.clear()
