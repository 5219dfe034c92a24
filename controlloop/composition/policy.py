"""Builds the policy from its settings."""

from __future__ import annotations

from controlloop.optimizer.needs import replicas_needed
from controlloop.protocols import Policy, StateStore
from controlloop.settings.stability import StabilitySettings
from controlloop.settings.tree import Settings
from controlloop.stability.bounds import Bounds
from controlloop.stability.options import Direction, Panic, Steps, WindowOptions
from controlloop.stability.policies import WINDOWS, policies


def build_policy(settings: Settings, store: StateStore | None = None) -> Policy:
    """The policy that `stability` names.

    Args:
        settings: the daemon's.
        store: keeps its state, where it has any; None keeps nothing.

    Raises:
        UnknownPluginError: there is no such policy.

    """
    chosen = settings.stability
    bounds = Bounds(
        min_replicas=chosen.min_replicas,
        max_replicas=chosen.max_replicas or None,
        down_window_s=chosen.down_window_s,
    )
    if chosen.name != WINDOWS:
        return policies().create(chosen.name, bounds)
    return policies().create(WINDOWS, bounds, _window_options(chosen), replicas_needed, store)


def _window_options(chosen: StabilitySettings) -> WindowOptions:
    period_s = chosen.step_period_s
    return WindowOptions(
        up=Direction(
            window_s=chosen.up_window_s,
            tolerance=chosen.up_tolerance,
            steps=Steps(chosen.up_step_replicas, chosen.up_step_share, period_s),
            cooldown_s=chosen.up_cooldown_s,
        ),
        down=Direction(
            window_s=chosen.down_window_s,
            tolerance=chosen.down_tolerance,
            steps=Steps(chosen.down_step_replicas, chosen.down_step_share, period_s),
            cooldown_s=chosen.down_cooldown_s,
        ),
        startup_guard_s=chosen.startup_guard_s,
        flap_reversals=chosen.flap_reversals,
        flap_window_s=chosen.flap_window_s,
        panic=Panic(
            ratio=chosen.panic_ratio,
            waiting=chosen.panic_waiting,
            utilization=chosen.panic_utilization,
            step_share=chosen.panic_step_share,
        ),
    )
