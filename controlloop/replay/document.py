"""A recording as JSON lines: a header, then each cycle's inputs and what was decided on them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controlloop.api.decision import Decision
from controlloop.api.json_text import parse_json
from controlloop.api.observation import Observation
from controlloop.api.plain_values import from_plain, to_plain
from controlloop.api.report import CycleReport
from controlloop.api.system import System
from controlloop.errors import InputError, Problem

KIND: Final = "controlloop recording"
VERSION: Final = 1
REPLAYED_SECTIONS: Final = (
    "cycle",
    "collector",
    "optimizer",
    "estimator",
    "forecaster",
    "stability",
)
"""The settings that decide; none of them holds a secret, and of no others anything is kept."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording rests on.

    Attributes:
        program: the version that wrote it.
        settings: the sections of `REPLAYED_SECTIONS`.
        state: what the parts had kept when it began, by part, in base64; absent where nothing.
        part: 1 is the beginning; the file that took its place when it was full is 2, and so on.
        version: of the format.

    """

    program: str
    settings: Mapping[str, Any]
    state: Mapping[str, str] = field(default_factory=dict)
    part: int = 1
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one server: enough to compare it."""

    server: str
    action: str
    before: int
    replicas: int
    accelerator: str = ""
    max_batch: int = 0
    cost_per_hour: float = 0.0
    holds: tuple[str, ...] = ()

    @property
    def outcome(self) -> tuple[str, int, str, int]:
        """What two decisions are equal in."""
        return self.action, self.replicas, self.accelerator, self.max_batch


@dataclass(frozen=True, slots=True)
class Recorded:
    """One cycle. `system` None is that of the cycle before; `observation` None saw nothing.

    `decided` is None where the cycle failed before it decided, in the stage that `failed` names.
    """

    now: float
    since: float
    system: System | None = None
    observation: Observation | None = None
    decided: tuple[Decided, ...] | None = None
    failed: str = ""


def decided_of(report: CycleReport) -> tuple[Decided, ...] | None:
    """What a cycle decided, server by server; None where it came to no decision."""
    if report.decisions is None:
        return None
    return tuple(_decided(each) for each in report.decisions.decisions)


def recorded_of(report: CycleReport, since: float, system: System | None) -> Recorded:
    """A cycle as it is written down."""
    return Recorded(
        now=report.time,
        since=since,
        system=system,
        observation=report.observation,
        decided=decided_of(report),
        failed="" if report.failure is None else str(report.failure.stage),
    )


def header_line(header: Header) -> str:
    """The first line of a file."""
    settings = {name: header.settings[name] for name in REPLAYED_SECTIONS}
    document = {
        "kind": KIND,
        "version": header.version,
        "program": header.program,
        "part": header.part,
        "settings": settings,
        "state": dict(header.state),
    }
    return json.dumps(document, separators=(",", ":"))


def cycle_line(cycle: Recorded) -> str:
    """One line for a cycle."""
    return json.dumps(to_plain(cycle), separators=(",", ":"), allow_nan=False)


def read_header(line: str) -> Header:
    """The header that a file begins with.

    Raises:
        InputError: it is none, or of another version.

    """
    document = parse_json(line)
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind != KIND or not isinstance(document, dict):
        raise InputError([Problem("kind", f"must be {KIND!r}", f"{kind!r:.40}")])
    if document.get("version") != VERSION:
        raise InputError([Problem("version", f"must be {VERSION}", repr(document.get("version")))])
    settings = document.get("settings")
    if not isinstance(settings, dict) or set(settings) - set(REPLAYED_SECTIONS):
        raise InputError([Problem("settings", f"must be sections of {REPLAYED_SECTIONS}")])
    return Header(
        program=from_plain(str, document.get("program"), "program"),
        settings=settings,
        state=_state(document.get("state")),
        part=from_plain(int, document.get("part"), "part"),
    )


def read_cycle(line: str) -> Recorded:
    """The cycle of a line.

    Raises:
        InputError: it is none.

    """
    return from_plain(Recorded, parse_json(line))


def _state(plain: object) -> Mapping[str, str]:
    if not isinstance(plain, dict) or not all(isinstance(each, str) for each in plain.values()):
        raise InputError([Problem("state", "must be texts by part")])
    for part, text in plain.items():
        try:
            b64decode(text, validate=True)
        except ValueError:
            raise InputError([Problem(f"state.{part}", "must be base64")]) from None
    return plain


def _decided(decision: Decision) -> Decided:
    desired = decision.desired
    return Decided(
        server=decision.server,
        action=str(decision.action),
        before=decision.current.replicas,
        replicas=desired.replicas,
        accelerator=desired.accelerator,
        max_batch=desired.max_batch,
        cost_per_hour=desired.cost_per_hour,
        holds=tuple(dict.fromkeys(str(hold.reason) for hold in decision.holds)),
    )
