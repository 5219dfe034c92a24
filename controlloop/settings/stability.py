"""The settings of what keeps control steady."""

from __future__ import annotations

from controlloop.settings.form import CONFIG_MAP, Section
from controlloop.settings.form import setting as _setting


class StabilitySettings(Section):
    """What keeps control steady."""

    name: str = _setting(
        "windows",
        "policy plug-in, or 'module:Factory'; `bounds` has bounds and the down window alone",
    )
    min_replicas: int = _setting(
        1, "least replicas of a server that does not say otherwise", "replicas", ge=1
    )
    max_replicas: int = _setting(
        0, "most replicas of a server that does not say otherwise", "replicas", "0: no bound", ge=0
    )
    down_window_s: float = _setting(
        180.0,
        "a decrease goes no further than the most that was needed within so long; none until this "
        "process has been in control for so long",
        "s",
        "0: off",
        ge=0,
    )
    up_window_s: float = _setting(
        0.0, "an increase goes no further than what was needed throughout so long", "s", "0", ge=0
    )
    down_tolerance: float = _setting(
        0.05, "share of its capacity that a decrease leaves to spare", "share", "0", ge=0, le=0.9
    )
    up_tolerance: float = _setting(
        0.0, "share by which a load may exceed what runs before it grows", "share", "0", ge=0, le=1
    )
    down_step_replicas: int = _setting(
        0, "most replicas taken away within a step period", "replicas", "0", ge=0
    )
    down_step_share: float = _setting(
        0.0,
        "most taken away within a step period, as a share of what ran; the greater of both counts",
        "share",
        "0",
        ge=0,
        le=1,
    )
    up_step_replicas: int = _setting(
        0, "most replicas added within a step period", "replicas", "0", ge=0
    )
    up_step_share: float = _setting(
        0.0,
        "most added within a step period, as a share of what ran; the greater of both counts",
        "share",
        "0",
        ge=0,
        le=100,
    )
    step_period_s: float = _setting(60.0, "the period of the step limits", "s", gt=0)
    down_cooldown_s: float = _setting(0.0, "no decrease so soon after any change", "s", "0", ge=0)
    up_cooldown_s: float = _setting(0.0, "no increase so soon after any change", "s", "0", ge=0)
    startup_guard_s: float = _setting(
        900.0,
        "replicas that were added and are not ready forbid a decrease, for so long at most",
        "s",
        "0",
        ge=0,
    )
    flap_reversals: int = _setting(
        6,
        "changes of direction within the flap window from which on each doubles the down window",
        "changes",
        "0",
        ge=0,
    )
    flap_window_s: float = _setting(
        3600.0,
        "time in which changes of direction are counted; no down window grows beyond it",
        "s",
        gt=0,
    )
    panic_ratio: float = _setting(
        2.0,
        "a load that needs so many times what runs is answered at once, whatever the windows, "
        "limits and cooldowns of an increase",
        "ratio",
        "0",
        ge=0,
    )
    panic_waiting: float = _setting(
        1.0, "the same, when so many requests wait per ready replica", "requests", "0", ge=0
    )
    panic_utilization: float = _setting(
        0.95,
        "the same, when any wait and this share of the batches is in service",
        "share",
        "0",
        ge=0,
        le=1,
    )
    panic_step_share: float = _setting(
        0.25,
        "what an overloaded server gets, as a share of what runs, where the model holds that "
        "enough runs; at least one replica, and once until those serve",
        "share",
        "0",
        ge=0,
        le=1,
    )
    state_file: str = _setting(
        "",
        "file that keeps the windows over restarts; read and written by one process",
        off="empty: nothing is kept",
    )
    state_config_map: str = _setting(
        "",
        "ConfigMap, as namespace/name, that keeps them instead of a file; made where there is "
        "none, and not written in a dry run",
        off="empty: nothing is kept",
        pattern=CONFIG_MAP,
    )
