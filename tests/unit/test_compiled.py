"""Compiled functions work whatever becomes of what is kept on disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import caching

from controlloop.compiled import kept


def twice(number: int) -> int:
    return 2 * number


def test_a_file_system_without_a_place_for_a_cache_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert kept(twice)(21) == 42


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("left", [0, 9])
def test_a_cache_that_was_left_half_written_is_made_anew(
    kind: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kept(twice)(21)
    (torn,) = tmp_path.rglob(kind)
    torn.write_bytes(torn.read_bytes()[:left])

    assert kept(twice)(21) == 42
    mended: Any = kept(twice)
    assert mended(21) == 42
    assert sum(mended.stats.cache_hits.values()) == 1


def test_a_cache_that_can_no_longer_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    made = kept(twice)
    shutil.rmtree(tmp_path / "cache")
    assert made(21) == 42


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
