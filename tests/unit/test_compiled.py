"""Compiled functions work where nothing can be kept on disk, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest

from controlloop import compiled as module


def twice(number: int) -> int:
    return 2 * number


def test_a_file_system_without_a_place_for_a_cache_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def njit(**options: Any) -> Callable[..., Any]:
        asked.append(options.get("cache", False))
        if asked[-1]:
            raise RuntimeError("cannot cache function 'twice': no locator available")
        made: Callable[..., Any] = numba.njit(**options)
        return made

    # Numba uses its own decorator itself: only ours is to fail.
    monkeypatch.setattr(module, "numba", SimpleNamespace(njit=njit))
    assert module.kept(twice)(21) == 42
    assert asked == [True, False]


ENTRY = """
from pathlib import Path
from controlloop.compiled import kept, stamp_of_sources
from helper import step

def kept_for(sources):
    @kept
    def twice(number):
        _ = sources
        return step(step(number))
    return twice

twice = kept_for(stamp_of_sources(Path(__file__).parent))
print(twice(1), sum(twice.stats.cache_hits.values()))
"""
HELPER = """
from controlloop.compiled import compiled

@compiled
def step(number):
    return number + {by}
"""


@pytest.mark.slow
def test_what_is_kept_is_made_anew_when_a_file_that_it_calls_changes(tmp_path: Path) -> None:
    (tmp_path / "entry.py").write_text(ENTRY)

    def said(by: int) -> str:
        (tmp_path / "helper.py").write_text(HELPER.format(by=by))
        return subprocess.check_output([sys.executable, "entry.py"], cwd=tmp_path, text=True)

    assert [said(1), said(1), said(2)] == ["3 0\n", "3 1\n", "5 0\n"]
