"""Runs controlloop under a wall clock that can be set: seconds ahead stand in the file $SHIFT_FILE.

Only what Python asks for the time is shifted, in this one process; the monotonic clock is not.
"""

from __future__ import annotations

import datetime as dt
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any, Final, TypeAlias

_FILE = Path(os.environ["SHIFT_FILE"])
_real_time: Final = time.time
_real_datetime: TypeAlias = dt.datetime


def _ahead_s() -> float:
    try:
        return float(_FILE.read_text())
    except (OSError, ValueError):
        return 0.0


def _time() -> float:
    return _real_time() + _ahead_s()


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real_datetime)


class _Datetime(_real_datetime, metaclass=_Kind):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _real_datetime.fromtimestamp(_time(), tz)


if __name__ == "__main__":
    time.time = _time
    dt.datetime = _Datetime  # type: ignore[misc]  # that is the point of it
    sys.argv = ["controlloop", *sys.argv[1:]]
    runpy.run_module("controlloop", run_name="__main__", alter_sys=False)
