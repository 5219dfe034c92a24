"""Edits an engine's command line: single flags, with everything else as it was. Pure.

Whether a word after a flag is the flag's value cannot be seen; `switches` are the flags of which
a template says that they have none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

SHELLS: Final = frozenset({"sh", "bash", "ash", "dash"})


def flag_of(word: str) -> str:
    """The flag that a word is or begins with, as engines read it; "" where it is none."""
    if not word.startswith("--") or word == "--":
        return ""
    return word[2:].partition("=")[0].replace("_", "-")


def value_of(
    words: Sequence[str], flag: str, switches: Collection[str] = frozenset()
) -> str | None:
    """The value of a flag: "" where it has none, None where it is not there."""
    found = None
    for at, word in enumerate(words):
        if flag_of(word) == flag:
            if "=" in word:
                found = word.partition("=")[2]
            else:
                found = words[at + 1] if _has_value(words, at, switches) else ""
    return found


def rewritten(
    words: Sequence[str],
    gone: Collection[str],
    put: Mapping[str, str],
    *,
    separate: bool,
    switches: Collection[str] = frozenset(),
) -> tuple[str, ...]:
    """`words` without the flags `gone` and `put`, and with `put` where the first of them stood.

    Args:
        words: of a command line.
        gone: flags to leave out.
        put: values by flag, in the order in which they are to stand; "" is no value.
        separate: whether a value is a word of its own.
        switches: flags that have no value.

    """
    touched = {*gone, *put}
    kept: list[str] = []
    place: int | None = None
    at = 0
    while at < len(words):
        if flag_of(words[at]) not in touched:
            kept.append(words[at])
            at += 1
            continue
        place = len(kept) if place is None else place
        at += 2 if "=" not in words[at] and _has_value(words, at, switches) else 1
    place = len(kept) if place is None else place
    return (*kept[:place], *_spelled(put, separate=separate), *kept[place:])


def is_shell(words: Sequence[str]) -> bool:
    """Whether a shell reads the rest as one text, in which no flag can be edited safely."""
    return bool(words) and words[0].rpartition("/")[2] in SHELLS


def _has_value(words: Sequence[str], at: int, switches: Collection[str]) -> bool:
    if flag_of(words[at]) in switches:
        return False
    return at + 1 < len(words) and not words[at + 1].startswith("--")


def _spelled(put: Mapping[str, str], *, separate: bool) -> Iterable[str]:
    for flag, value in put.items():
        if not value:
            yield f"--{flag}"
        elif separate:
            yield from (f"--{flag}", value)
        else:
            yield f"--{flag}={value}"
