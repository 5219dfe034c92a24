"""Waiting for a condition instead of for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def until(
    condition: Callable[[], Answer],
    what: str,
    timeout_s: float = 60.0,
    pause_s: float = 0.05,
) -> Answer:
    """Ask again and again until the answer is truthy; return it.

    Raises:
        TimeoutError: not within `timeout_s`; names `what` was awaited and the last answer.

    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s; last answer was {answer!r}")
        time.sleep(pause_s)
