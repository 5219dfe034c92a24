"""Why a server may not change: typed, so that reports, logs and metrics can count them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Forbids(StrEnum):
    """What a hold forbids."""

    DECREASE = "decrease"
    INCREASE = "increase"
    CHANGE = "change"


class HoldReason(StrEnum):
    """Every reason for which a server keeps what it has."""

    # Knowledge: what must be known before anything shrinks.
    SIGNAL_MISSING = "signal-missing"
    SIGNAL_STALE = "signal-stale"
    INERT = "inert"
    POD_GONE = "pod-gone"
    POD_RESTARTED = "pod-restarted"
    POD_NOT_REPORTING = "pod-not-reporting"
    REQUESTS_WAITING = "requests-waiting"
    TOKENS_UNKNOWN = "tokens-unknown"
    WARMING_UP = "warming-up"
    ROLLOUT = "rollout-in-progress"
    PODS_REFUSED = "pods-refused"
    PODS_NOT_READY = "pods-not-ready"
    # Description: what the server says of itself, or the data does not say of it.
    LABELS_INVALID = "labels-invalid"
    DUPLICATE_NAME = "duplicate-name"
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_CLASS = "unknown-class"
    UNKNOWN_ACCELERATOR = "unknown-accelerator"
    # Steadiness: what is known, but has not been so for long enough.
    DOWN_WINDOW = "down-window"
    UP_WINDOW = "up-window"
    FLAPPING = "flapping"
    TOLERANCE = "within-tolerance"
    STEP_LIMIT = "step-limit"
    COOLDOWN = "cooldown"
    CHANGE_IN_PROGRESS = "change-in-progress"
    OVERLOAD = "overload"
    SWITCH_MARGIN = "switch-margin"
    # Switches: another accelerator or batch.
    SWITCHING = "switching"
    SWITCH_FAILED = "switch-failed"
    SWITCH_NO_ROOM = "switch-no-room"
    # Siblings: several accelerators at once.
    SIBLING_SELECTOR = "sibling-selector"
    SIBLING_FAILED = "sibling-failed"
    SIBLING_ALONE = "sibling-alone"
    # Optimization.
    NO_CANDIDATE = "no-candidate"
    NO_CAPACITY = "no-capacity"
    NO_NODE_FITS = "no-node-fits"
    UNPLACED = "unplaced"
    GROWTH_NOT_READY = "growth-not-ready"
    QUOTA = "quota"
    # Will of people and of other controllers.
    PAUSED = "paused"
    OTHER_SCALER = "other-scaler"
    MANUAL_CHANGE = "manual-change"
    REVERTED = "reverted"
    AT_MINIMUM = "at-minimum"
    AT_MAXIMUM = "at-maximum"


@dataclass(frozen=True, slots=True)
class Hold:
    """One reason, what it forbids, and the detail that a person needs to remove it.

    `limit` is how far a decrease or an increase may go, in replicas; None is not at all. Of a
    decrease it may lie above what runs: then so many must run.
    """

    reason: HoldReason
    forbids: Forbids
    detail: str
    limit: int | None = None

    def binds(self, direction: Forbids, before: int, after: int) -> bool:
        """Whether it forbids `after` replicas where `before` run, in that direction."""
        if self.forbids is Forbids.CHANGE:
            return True
        if self.forbids is not direction:
            return False
        limit = before if self.limit is None else self.limit
        return after < limit if direction is Forbids.DECREASE else after > limit
