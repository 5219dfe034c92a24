"""Notices what others set of that which we set, and who puts ours back again and again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.interventions import Author, Intervention, InterventionKind
from controlloop.api.observation import Workload
from controlloop.clock import timestamp

SOMEBODY: Final = "somebody"
MOST_BACKOFF_S: Final = 86400.0
"""Who reverts is tried once a day at least: it may have been taught better."""


@dataclass(frozen=True, slots=True)
class InterventionOptions:
    """How others are left alone; times in seconds.

    Attributes:
        respect_s: for so long after a change by somebody else; 0 never.
        revert_limit: from so many reverts on end the one who reverts is left alone; 0 never.
        revert_window_s: a revert later than that after the last one begins a new count.
        revert_backoff_s: the first time of leaving alone, doubled by each further revert.

    """

    respect_s: float = 600.0
    revert_limit: int = 3
    revert_window_s: float = 3600.0
    revert_backoff_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody else set, when (seconds since the epoch), in words."""

    time: float
    manager: str
    words: str


@dataclass(frozen=True, slots=True)
class Written:
    """What we set last: replicas before and after, and when (seconds since the epoch)."""

    time: float
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of one workload.

    Attributes:
        replicas: as seen or written last.
        place: accelerator and batch as seen last.
        written: our last write that nobody has overruled.
        change: the last change by somebody else that we have not overruled.
        reverts: how often on end `reverter` put our replicas back, the last at `reverted_at`.

    """

    replicas: int
    place: tuple[str, int]
    written: Written | None = None
    change: Change | None = None
    reverts: int = 0
    reverted_at: float = 0.0
    reverter: str = ""


def look(
    before: Standing | None, workload: Workload, now: float, options: InterventionOptions
) -> Standing:
    """What is remembered after this look; `before` None of a workload that was never seen."""
    place = (workload.accelerator, workload.max_batch)
    scaled = any(hold.reason is HoldReason.OTHER_SCALER for hold in workload.holds)
    author = workload.replicas_by
    if before is None:
        change = None if scaled else _lately(workload, author, now, options)
        return Standing(workload.replicas, place, change=change)
    after = replace(before, replicas=workload.replicas, place=place)
    if scaled:
        # Its changes are that scaler's, whom nothing of ours overrules anyway.
        return replace(after, written=None, change=None)
    if workload.replicas != before.replicas:
        return _replicas_changed(before, after, author, now, options)
    moved_by = workload.allocation_by
    if place != before.place and not (moved_by is not None and moved_by.ours):
        words = f"accelerator and batch from {_said(before.place)} to {_said(place)}"
        return replace(after, change=Change(now, _name(moved_by), words))
    written = before.written
    if written is not None and now - written.time > options.revert_window_s:
        return replace(after, reverts=0, reverter="")
    return after


def wrote(before: Standing, replicas_before: int, replicas: int, now: float) -> Standing:
    """What is remembered after a write of ours was carried out."""
    return replace(
        before, replicas=replicas, written=Written(now, replicas_before, replicas), change=None
    )


def intervention_of(
    standing: Standing, now: float, options: InterventionOptions
) -> Intervention | None:
    """What is to be left alone now; None where nothing is."""
    reverting = 0 < options.revert_limit <= standing.reverts
    if reverting:
        until = standing.reverted_at + _backoff_s(standing, options)
        if now < until:
            detail = (
                f"{standing.reverter} put our replicas back {standing.reverts} times on end, last "
                f"at {timestamp(standing.reverted_at)}; nothing is written until "
                f"{timestamp(until)}: "
                "leave replicas out of what it applies, or pause the server"
            )
            kind, since = InterventionKind.REVERTING, standing.reverted_at
            return Intervention(kind, standing.reverter, since, until, detail)
    change = standing.change
    if change is None or now >= change.time + options.respect_s:
        return None
    until = change.time + options.respect_s
    detail = (
        f"{change.manager} set {change.words} at {timestamp(change.time)}; "
        f"left alone until {timestamp(until)}"
    )
    return Intervention(InterventionKind.MANUAL, change.manager, change.time, until, detail)


def hold_of(intervention: Intervention) -> Hold:
    """The hold that leaves it alone."""
    manual = intervention.kind is InterventionKind.MANUAL
    reason = HoldReason.MANUAL_CHANGE if manual else HoldReason.REVERTED
    return Hold(reason, Forbids.CHANGE, intervention.detail)


def _replicas_changed(
    before: Standing,
    after: Standing,
    author: Author | None,
    now: float,
    options: InterventionOptions,
) -> Standing:
    if author is not None and author.ours:
        # A write of ours of which no answer came.
        return wrote(before, before.replicas, after.replicas, now)
    manager, written = _name(author), before.written
    change = Change(now, manager, f"replicas from {before.replicas} to {after.replicas}")
    after = replace(after, written=None, change=change)
    if written is None or after.replicas != written.before:
        return after
    again = before.reverter == manager and now < before.reverted_at + (
        options.revert_window_s + _backoff_s(before, options)
    )
    count = before.reverts + 1 if again else 1
    return replace(after, reverts=count, reverted_at=now, reverter=manager)


def _lately(
    workload: Workload, author: Author | None, now: float, options: InterventionOptions
) -> Change | None:
    """A change that was made while nobody looked: only the API server's word tells of it."""
    if author is None or author.ours or author.time is None:
        return None
    if author.time + options.respect_s <= now:
        return None
    return Change(min(author.time, now), author.manager, f"replicas to {workload.replicas}")


def _backoff_s(standing: Standing, options: InterventionOptions) -> float:
    beyond = standing.reverts - options.revert_limit
    if options.revert_limit <= 0 or beyond < 0:
        return options.respect_s
    return min(options.revert_backoff_s * 2.0 ** min(beyond, 16), MOST_BACKOFF_S)


def _name(author: Author | None) -> str:
    return SOMEBODY if author is None else author.manager or SOMEBODY


def _said(place: tuple[str, int]) -> str:
    return f"{place[0] or 'none'} ({place[1] or 'no batch'})"
