"""What the windows remember as bytes that survive a restart, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from controlloop.api.json_text import parse_json
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.spec_types import Count, Form, Text, Unique
from controlloop.keeping import load_kept, save_kept
from controlloop.protocols import StateStore
from controlloop.stability.track import Track

KIND: Final = "controlloop stability state"
VERSION: Final = 1

_Value = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Moments = tuple[tuple[_Value, _Value], ...]


class TrackState(Form):
    """What is remembered of one server; see `Track`."""

    server: Text
    accelerator: Text
    max_batch: Count
    since: _Value
    looked_at: _Value
    replicas: Count
    highs: _Moments
    lows: _Moments
    changes: _Moments


class StateDocument(Form):
    """All of it."""

    kind: Literal["controlloop stability state"]
    version: Literal[1]
    servers: Annotated[tuple[TrackState, ...], Unique(("server",))]


def encode(tracks: Mapping[str, Track]) -> bytes:
    """The state as UTF-8 JSON."""
    servers = [
        {
            "server": name,
            "accelerator": track.place[0],
            "max_batch": track.place[1],
            "since": track.since,
            "looked_at": track.looked_at,
            "replicas": track.replicas,
            "highs": track.highs,
            "lows": track.lows,
            "changes": track.changes,
        }
        for name, track in tracks.items()
    ]
    document = {"kind": KIND, "version": VERSION, "servers": servers}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode(state: bytes) -> Mapping[str, Track]:
    """The tracks that `encode` was given.

    Raises:
        InputError: it is torn, of another version, or something else.

    """
    kept = read(StateDocument, parse_json(state), unknown=UnknownKeys.REJECT)
    return {
        one.server: Track(
            place=(one.accelerator, one.max_batch),
            since=one.since,
            looked_at=one.looked_at,
            replicas=one.replicas,
            highs=one.highs,
            lows=one.lows,
            changes=one.changes,
        )
        for one in kept.servers
    }


def load_tracks(store: StateStore) -> tuple[Mapping[str, Track], tuple[str, ...]]:
    """What is kept, and remarks; what cannot be read is set aside, and the windows begin anew."""
    kept, notes = load_kept(
        store, decode, "the kept windows are no good and now at", "the windows begin anew"
    )
    return kept or {}, notes


def save_tracks(store: StateStore, tracks: Mapping[str, Track]) -> tuple[str, ...]:
    """Keep `tracks`; a remark where that failed."""
    return save_kept(store, encode(tracks), "the windows are not kept")
