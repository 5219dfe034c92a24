"""What was seen as bytes that survive a restart, and back: NumPy's archive of arrays, as text.

The archive carries a checksum of each array, so one that was torn is recognised. It holds no
objects: reading it runs nothing. It is written in base64, since what keeps it may hold text only.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.errors import InputError, Problem
from controlloop.forecast.startup import Pair

KIND: Final = "controlloop forecast state"
VERSION: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """All that is kept.

    Attributes:
        seen_at: when each server was last seen, in the order of the rows.
        predictors: the names of the columns of the scores.
        start_ups: start-up times by model and accelerator, seconds.
        rates: the arrays of the arrival rates.
        tokens: the arrays of the token lengths.
        left_out: names of arrays in which nothing is known, since all would not have fitted.

    """

    seen_at: Mapping[str, float]
    predictors: tuple[str, ...]
    start_ups: Mapping[Pair, tuple[float, ...]]
    rates: Mapping[str, FloatArray]
    tokens: Mapping[str, FloatArray]
    left_out: tuple[str, ...] = ()


def encode(kept: Kept) -> bytes:
    """The state as bytes."""
    about = {
        "kind": KIND,
        "version": VERSION,
        "seenAt": dict(kept.seen_at),
        "predictors": list(kept.predictors),
        "leftOut": list(kept.left_out),
        "startUps": [[*pair, list(times)] for pair, times in kept.start_ups.items()],
    }
    arrays = {f"rates.{name}": array for name, array in kept.rates.items()}
    arrays |= {f"tokens.{name}": array for name, array in kept.tokens.items()}
    file = io.BytesIO()
    np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    return base64.b64encode(file.getvalue())


def decode(state: bytes) -> Kept:
    """What `encode` was given.

    Raises:
        InputError: it is torn, of another version, or something else.

    """
    try:
        with np.load(
            io.BytesIO(base64.b64decode(state, validate=True)), allow_pickle=False
        ) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays.pop("about")))
        if (about["kind"], about["version"]) != (KIND, VERSION):
            found = f"{about['kind']} of version {about['version']}"
            raise InputError([Problem("", f"must be {KIND} of version {VERSION}", found)])
        return Kept(
            seen_at={str(name): float(at) for name, at in about["seenAt"].items()},
            predictors=tuple(map(str, about["predictors"])),
            start_ups={
                (str(model), str(accelerator)): tuple(map(float, times))
                for model, accelerator, times in about["startUps"]
            },
            rates=_of("rates.", arrays),
            tokens=_of("tokens.", arrays),
            left_out=tuple(map(str, about.get("leftOut", ()))),
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError([Problem("", f"cannot be read: {error}")]) from error


def _of(prefix: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
