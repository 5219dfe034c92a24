"""What is remembered of writes and of others' changes, as bytes that survive a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from controlloop.actuator.interventions import Change, Standing, Written
from controlloop.api.json_text import parse_json
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.spec_types import Count, Form, Text, Unique
from controlloop.keeping import load_kept, save_kept
from controlloop.protocols import StateStore

KIND: Final = "controlloop intervention state"
VERSION: Final = 1

_Time = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Words = Annotated[str, Field(max_length=1000)]


class ChangeState(Form):
    """See `Change`."""

    time: _Time
    manager: _Words
    words: _Words


class WrittenState(Form):
    """See `Written`."""

    time: _Time
    before: Count
    after: Count


class StandingState(Form):
    """What is remembered of one workload; see `Standing`."""

    uid: Text
    replicas: Count
    accelerator: _Words
    max_batch: Count
    written: WrittenState | None = None
    change: ChangeState | None = None
    reverts: Count
    reverted_at: _Time
    reverter: _Words


class StateDocument(Form):
    """All of it."""

    kind: Literal["controlloop intervention state"]
    version: Literal[1]
    workloads: Annotated[tuple[StandingState, ...], Unique(("uid",))]


def encode(standings: Mapping[str, Standing]) -> bytes:
    """The state as UTF-8 JSON."""
    workloads = [
        {
            "uid": uid,
            "replicas": one.replicas,
            "accelerator": one.place[0],
            "max_batch": one.place[1],
            "written": None
            if one.written is None
            else {
                "time": one.written.time,
                "before": one.written.before,
                "after": one.written.after,
            },
            "change": None
            if one.change is None
            else {
                "time": one.change.time,
                "manager": one.change.manager,
                "words": one.change.words,
            },
            "reverts": one.reverts,
            "reverted_at": one.reverted_at,
            "reverter": one.reverter,
        }
        for uid, one in standings.items()
    ]
    document = {"kind": KIND, "version": VERSION, "workloads": workloads}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode(state: bytes) -> Mapping[str, Standing]:
    """What `encode` was given.

    Raises:
        InputError: it is torn, of another version, or something else.

    """
    kept = read(StateDocument, parse_json(state), unknown=UnknownKeys.REJECT)
    return {one.uid: _standing(one) for one in kept.workloads}


def load_standings(store: StateStore) -> tuple[Mapping[str, Standing], tuple[str, ...]]:
    """What is kept, and remarks; what cannot be read is set aside, and nothing is remembered."""
    kept, notes = load_kept(
        store,
        decode,
        "what was kept of others' changes is no good, now at",
        "others' changes are remembered anew",
    )
    return kept or {}, notes


def save_standings(store: StateStore, standings: Mapping[str, Standing]) -> tuple[str, ...]:
    """Keep them; a remark where that failed."""
    return save_kept(store, encode(standings), "others' changes are not kept")


def _standing(one: StandingState) -> Standing:
    written, change = one.written, one.change
    return Standing(
        replicas=one.replicas,
        place=(one.accelerator, one.max_batch),
        written=None if written is None else Written(written.time, written.before, written.after),
        change=None if change is None else Change(change.time, change.manager, change.words),
        reverts=one.reverts,
        reverted_at=one.reverted_at,
        reverter=one.reverter,
    )
