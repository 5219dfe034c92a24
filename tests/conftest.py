"""What every test may use."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"reference data {name} is not beside this checkout")
        return path

    return find


@pytest.fixture(scope="session")
def shared_json(shared_data: Callable[[str], Path]) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        return json.loads(shared_data(name).read_text())

    return load


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Puts back what a test changes of the process's logs.

    For every test: a command run in this process sends its logs to a stream that is closed after
    it, and the next test that logs, in whatever file, would fail.
    """
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
