from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from controlloop.api.observation import Observation
from controlloop.api.report import CycleReport, Failure, Stage
from controlloop.clock import SystemClock
from controlloop.daemon.recorder import Recorder
from controlloop.daemon.service import Service, Timing
from controlloop.daemon.troubles import (
    REASONS,
    Announcer,
    Moment,
    ToldStore,
    Trouble,
    troubles_of,
)
from controlloop.errors import StateStoreError, UnavailableError
from controlloop.replay.memory_store import MemoryStore
from controlloop.telemetry import Metrics


@dataclass
class Written:
    """Events that were written; refuses them while it is gone."""

    events: list[tuple[str, str]] = field(default_factory=list)
    gone: bool = False

    def write(self, reason: str, message: str) -> None:
        if self.gone:
            raise UnavailableError("no answer")
        self.events.append((reason, message))


class FullStore(MemoryStore):
    full = False

    def save(self, state: bytes) -> None:
        if self.full:
            raise StateStoreError("no space")
        super().save(state)


def value(metrics: Metrics, kind: Trouble) -> float | None:
    return metrics.registry.get_sample_value("controlloop_trouble", {"kind": str(kind)})


@pytest.mark.parametrize("kind", Trouble)
def test_each_trouble_is_told_when_it_begins_and_when_it_ends(kind: Trouble) -> None:
    metrics, written = Metrics(), Written()
    announcer = Announcer(metrics, written.write)
    assert value(metrics, kind) == 0
    for detail in ("it is bad", "it is worse"):
        announcer.standing({kind: detail})
        announcer.write_events(leads=True)
        assert value(metrics, kind) == 1
    announcer.standing({})
    announcer.write_events(leads=True)
    assert value(metrics, kind) == 0
    began, ended = REASONS[kind]
    assert written.events == [(began, "it is bad"), (ended, f"{kind} is over")]


def test_events_wait_for_an_api_server_that_is_gone_and_keep_their_order() -> None:
    written = Written(gone=True)
    announcer = Announcer(Metrics(), written.write)
    announcer.standing({Trouble.CYCLE_FAILED: "no API server"})
    announcer.write_events(leads=True)
    announcer.happened(Moment.CLOCK_JUMPED, "by an hour")
    announcer.standing({})
    written.gone = False
    announcer.write_events(leads=False)
    assert written.events == []
    announcer.write_events(leads=True)
    assert [reason for reason, _ in written.events] == [
        "CycleFailed",
        "ClockJumped",
        "CyclesResumed",
    ]


def test_what_is_wrong_is_read_off_the_report_the_data_and_the_stores() -> None:
    failed = CycleReport(1.0, (), failure=Failure(Stage.OBSERVE, "UnavailableError", "gone"))
    blind = CycleReport(1.0, (), observation=Observation(1.0, (), metrics_problem="silent"))
    assert troubles_of(failed, None, ()) == {
        Trouble.CYCLE_FAILED: "in its observe stage, UnavailableError: gone; nothing is changed"
    }
    assert troubles_of(blind, "x.json: is not JSON", ()) == {
        Trouble.METRICS_LOST: "silent; nothing is taken away",
        Trouble.DATA_BAD: "x.json: is not JSON; the last good data stays in force",
    }
    kept = replace(failed, maintenance="Lease: cables")
    assert troubles_of(kept, None, ()).keys() == {Trouble.CYCLE_FAILED, Trouble.MAINTENANCE}
    assert troubles_of(None, None, ()) == {}


def test_a_store_that_fails_is_known_until_it_works_again() -> None:
    metrics, full = Metrics(), FullStore(b"")
    store = ToldStore("estimator", full, Announcer(metrics))
    full.full = True
    with pytest.raises(StateStoreError):
        store.save(b"state")
    assert troubles_of(None, None, [store]) == {
        Trouble.STATE_NOT_KEPT: "the estimator's state: no space"
    }
    full.full = False
    store.save(b"state")
    assert troubles_of(None, None, [store]) == {}
    assert store.load() == b"state"
    store.set_aside()
    count = metrics.registry.get_sample_value(
        "controlloop_moments_total", {"kind": "StateSetAside"}
    )
    assert count == 1


class FailingCycle:
    """Fails in its first stage; `before` is called first."""

    def __init__(self) -> None:
        self.before: Callable[[], object] = lambda: None

    def run_once(self, now: float, *_: object) -> CycleReport:
        self.before()
        return CycleReport(now, (), failure=Failure(Stage.DATA, "StoppedError", "asked to stop"))


class GoodSource:
    problem = None


@pytest.mark.parametrize("stopped", [False, True])
def test_a_cycle_that_is_stopped_is_no_trouble(stopped: bool) -> None:
    metrics, cycle = Metrics(), FailingCycle()
    part, source = cast("Any", cycle), cast("Any", GoodSource())
    service = Service(
        part, source, None, SystemClock(), Timing(60.0, 30.0), metrics, Recorder(metrics)
    )
    if stopped:
        cycle.before = service.stopping.set
    service.run_cycle("schedule")
    assert value(metrics, Trouble.CYCLE_FAILED) == (0 if stopped else 1)
