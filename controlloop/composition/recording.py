"""Builds what records cycles, and the settings that recorded cycles are run again under."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from controlloop import __version__
from controlloop.clock import Clock
from controlloop.cycle import Cycle, Parts
from controlloop.errors import Problem, SettingsError, StateStoreError
from controlloop.protocols import StateStore
from controlloop.replay.document import REPLAYED_SECTIONS, Header
from controlloop.replay.memory_store import MemoryStore
from controlloop.replay.recording import RecordingCycle, RecordingFile
from controlloop.settings.file import read_settings
from controlloop.settings.tree import Settings

ESTIMATOR: Final = "estimator"
POLICY: Final = "stability"
FORECASTER: Final = "forecaster"
INTERVENTIONS: Final = "interventions"

Stores = Mapping[str, StateStore | None]
"""Where each part keeps its state; None keeps nothing."""


def recorded_stores(settings: Settings, stores: Stores) -> Stores:
    """The stores of the daemon's parts.

    A recording needs to know what they had learned when its file began: then those that keep
    nothing keep it in memory.
    """
    if not settings.recording.file:
        return stores
    return {part: MemoryStore() if store is None else store for part, store in stores.items()}


def unwritten(stores: Stores) -> Stores:
    """Stores that begin with what those of `stores` keep, and never write it."""
    return {
        part: None if store is None else MemoryStore(_state_of(store))
        for part, store in stores.items()
    }


def daemon_cycle(settings: Settings, parts: Parts, clock: Clock, stores: Stores) -> Cycle:
    """The daemon's cycle, recorded where that is asked for."""
    chosen, drain_time_s = settings.recording, settings.optimizer.drain_time_s
    if not chosen.file:
        return Cycle(parts, clock, drain_time_s)

    def header(part: int) -> Header:
        state = {name: _kept(store) for name, store in stores.items()}
        return Header(
            program=__version__,
            settings=settings.model_dump(mode="json"),
            state={name: text for name, text in state.items() if text},
            part=part,
        )

    most_bytes = int(chosen.most_megabytes * 1e6)
    file = RecordingFile(Path(chosen.file), header, most_bytes, chosen.keep)
    return RecordingCycle(parts, clock, drain_time_s, file)


def replayed_settings(header: Header, overrides: Mapping[str, object]) -> Settings:
    """The settings of a recording, with others on top.

    Raises:
        SettingsError: every problem of them; a setting that a replay does not depend on is one.

    """
    sections = ", ".join(REPLAYED_SECTIONS)
    strange = [
        Problem(name, f"has no effect on a replay; settings of these sections have: {sections}")
        for name in overrides
        if name.partition(".")[0] not in REPLAYED_SECTIONS
    ]
    if strange:
        raise SettingsError(strange, "command line")
    return read_settings(json.dumps(header.settings), "recording", overrides)


def _kept(store: StateStore | None) -> str:
    state = None if store is None else _state_of(store)
    return b64encode(state or b"").decode("ascii")


def _state_of(store: StateStore) -> bytes | None:
    """What a part has kept; what cannot be read is nothing, as it is for the part."""
    try:
        return store.load()
    except StateStoreError:
        return None
