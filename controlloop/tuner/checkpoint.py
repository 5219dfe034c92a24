"""What is known of all pairs as bytes that survive a restart, and back.

The document names what it is and its version, and carries a digest of the rest: a file that was
torn, is of another version or of something else is recognised, never read by halves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from controlloop.api.json_text import parse_json
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.replicas import FloatArray
from controlloop.api.spec_types import Count, Flag, Form, Name, Text
from controlloop.api.system import DEFAULT_QUEUE_MODEL, PerfParameters
from controlloop.errors import InputError, Problem
from controlloop.tuner.belief import Belief
from controlloop.tuner.expectation import CHANNELS
from controlloop.tuner.measurement import Measurement, Rejection

KIND: Final = "controlloop tuner state"
VERSION: Final = 1
FIELDS: Final = tuple(each.name for each in fields(Measurement))

PairKey = tuple[str, str, str, tuple[float, ...]]
"""Model, accelerator, queue model and the configured parameters: another one is another pair."""

_Value = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Row = tuple[_Value, ...]


class PairState(Form):
    """What is known of one pair; see `Belief`."""

    model: Name
    accelerator: Name
    queue_model: Name
    configured: _Row
    mean: _Row
    covariance: tuple[_Row, ...]
    reference: _Row
    fitted: Flag
    since_fit: Count
    noise: _Row
    seen: _Row
    bias: _Row
    drift: _Value
    recent: tuple[tuple[_Value | bool | Text | None, ...], ...]
    judged: tuple[Flag, ...]
    accepted: Count
    rejected: dict[Rejection, Count]
    refits: Count
    trusted: _Row | None = None
    proven: tuple[_Row, tuple[_Row, ...]] | None = None


class StateDocument(Form):
    """All of the state."""

    kind: Literal["controlloop tuner state"]
    version: Literal[1]
    digest: Name
    pairs: tuple[PairState, ...]


def key_of(perf: PerfParameters) -> PairKey:
    """The key of a configured pair."""
    return perf.model, perf.accelerator, queue_model_of(perf), perf.parameters


def queue_model_of(perf: PerfParameters) -> str:
    """The name of the queue model that a configured pair uses."""
    return perf.queue_model or DEFAULT_QUEUE_MODEL


def encode(beliefs: Mapping[PairKey, Belief]) -> bytes:
    """The state as UTF-8 JSON."""
    pairs = [_pair(key, belief) for key, belief in beliefs.items()]
    document = {"kind": KIND, "version": VERSION, "digest": _digest(pairs), "pairs": pairs}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode(state: bytes) -> dict[PairKey, Belief]:
    """The beliefs that `encode` was given; the time of the last measurement is not kept.

    A clock that was wrong before the restart must not make all that comes seem old.

    Raises:
        InputError: it is torn, of another version, or something else.

    """
    document = parse_json(state)
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind != KIND:
        raise InputError([Problem("kind", f"must be {json.dumps(KIND)}")])
    if document.get("version") != VERSION:
        given = json.dumps(document.get("version"), default=str)
        raise InputError([Problem("version", f"must be {VERSION}", given)])
    if document.get("digest") != _digest(document.get("pairs")):
        raise InputError([Problem("digest", "is not that of the pairs: the state is torn")])
    kept = read(StateDocument, document, unknown=UnknownKeys.REJECT)
    return {
        (one.model, one.accelerator, one.queue_model, one.configured): _belief(one, place)
        for place, one in enumerate(kept.pairs)
    }


def _digest(pairs: object) -> str:
    text = json.dumps(pairs, separators=(",", ":"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _pair(key: PairKey, belief: Belief) -> dict[str, Any]:
    model, accelerator, queue_model, configured = key
    return {
        "model": model,
        "accelerator": accelerator,
        "queue_model": queue_model,
        "configured": list(configured),
        "mean": belief.mean.tolist(),
        "covariance": belief.covariance.tolist(),
        "reference": belief.reference.tolist(),
        "fitted": belief.fitted,
        "since_fit": belief.since_fit,
        "noise": belief.noise.tolist(),
        "seen": belief.seen.tolist(),
        "bias": belief.bias.tolist(),
        "drift": belief.drift,
        "recent": [_row(one) for one in belief.recent],
        "judged": list(belief.judged),
        "accepted": belief.accepted,
        "rejected": {str(reason): count for reason, count in belief.rejected.items()},
        "refits": belief.refits,
        "trusted": None if belief.trusted is None else belief.trusted.tolist(),
        "proven": None if belief.proven is None else [each.tolist() for each in belief.proven],
    }


def _row(one: Measurement) -> list[object]:
    return [getattr(one, name) for name in FIELDS]


def _belief(one: PairState, place: int) -> Belief:
    """The belief, if its parts fit together.

    Raises:
        InputError: they do not.

    """
    width = len(one.configured)
    covariance = _array(one.covariance)
    rows = [one.mean, one.reference, *(row for row in (one.trusted,) if row is not None)]
    covariances = [covariance]
    if one.proven is not None:
        rows.append(one.proven[0])
        covariances.append(_array(one.proven[1]))
    channels = [one.noise, one.seen, one.bias]
    fits = (
        all(len(row) == width for row in rows)
        and all(_is_covariance(each, width) for each in covariances)
        and all(len(row) == len(CHANNELS) for row in channels)
        and all(len(row) == len(FIELDS) for row in one.recent)
    )
    if not fits:
        rule = "must be a whole pair: as many values as parameters, a covariance"
        raise InputError([Problem(f"pairs[{place}]", rule)])
    return Belief(
        mean=_array(one.mean),
        covariance=covariance,
        reference=_array(one.reference),
        fitted=one.fitted,
        since_fit=one.since_fit,
        noise=_array(one.noise),
        seen=_array(one.seen),
        bias=_array(one.bias),
        drift=one.drift,
        recent=tuple(_measurement(row) for row in one.recent),
        judged=one.judged,
        accepted=one.accepted,
        rejected={str(reason): count for reason, count in one.rejected.items()},
        refits=one.refits,
        trusted=None if one.trusted is None else _array(one.trusted),
        proven=None if one.proven is None else (_array(one.proven[0]), _array(one.proven[1])),
    )


def _is_covariance(matrix: FloatArray, width: int) -> bool:
    if matrix.shape != (width, width) or not np.allclose(matrix, matrix.T):
        return False
    return float(np.linalg.eigvalsh(matrix).min(initial=0.0)) >= -1e-9


def _measurement(row: tuple[Any, ...]) -> Measurement:
    named = dict(zip(FIELDS, row, strict=True))
    return Measurement(**{**named, "max_batch": int(named["max_batch"])})


def _array(values: object) -> FloatArray:
    return np.array(values, dtype=np.float64)
