"""Rules between settings: values that are good alone and bad together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from controlloop.api.system import LEAST_CONFIDENCE
from controlloop.errors import Problem
from controlloop.settings.tree import Settings

LEASE_MARGIN_S: Final = 1.0
"""By how much the lease's remainder must exceed a write's time-out."""


def broken_rules(settings: Settings, but: Collection[str] = ()) -> Iterator[Problem]:
    """Every rule that these settings break, at the setting that is to be changed.

    `but` names sections of which nothing is known: rules that look at them are left out.
    """
    for sections, rule in _RULES:
        if not any(section in but for section in sections):
            yield from rule(settings)


def _of_lease(settings: Settings) -> Iterator[Problem]:
    lease = settings.lease
    if lease.renew_every_s >= lease.duration_s / 2:
        # One renewal that fails must not cost the lease.
        rule = f"must be less than half of lease.duration_s ({lease.duration_s})"
        yield _problem("lease.renew_every_s", rule, lease.renew_every_s)


def _of_writes(settings: Settings) -> Iterator[Problem]:
    lease = settings.lease
    least_left_s = lease.duration_s - lease.renew_every_s - LEASE_MARGIN_S
    if any(_of_lease(settings)) or not lease.enabled:
        return
    if settings.actuator.write_timeout_s >= least_left_s:
        # No write would ever be sent: the lease always has less left than a write may take.
        rule = f"must be less than {least_left_s:g}, what the lease has left before its renewal"
        yield _problem("actuator.write_timeout_s", rule, settings.actuator.write_timeout_s)


def _of_samples(settings: Settings) -> Iterator[Problem]:
    collector = settings.collector
    if collector.stale_after_s >= collector.window_s:
        # A sample that old has left the window: nothing would ever be known to be stale.
        rule = f"must be less than collector.window_s ({collector.window_s:g})"
        yield _problem("collector.stale_after_s", rule, collector.stale_after_s)


def _of_targets(settings: Settings) -> Iterator[Problem]:
    for kind, place in settings.cluster.scale_targets.items():
        where = f"cluster.scale_targets.{kind}"
        if kind == "Deployment":
            yield Problem(where, "is managed already", place)
        elif len(place.split("/")) != 3 or not all(place.split("/")):
            yield Problem(where, "must be group/version/plural", place)


def _of_capacity(settings: Settings) -> Iterator[Problem]:
    if settings.capacity.source == "elastic" and not settings.capacity.maximum:
        rule = "must name the most cards of each type when capacity.source is elastic"
        yield Problem("capacity.maximum", rule)
    for kind, cards in settings.capacity.maximum.items():
        if cards < 0:
            yield _problem(f"capacity.maximum.{kind}", "must be >= 0", cards)


def _of_estimator(settings: Settings) -> Iterator[Problem]:
    estimator = settings.estimator
    yield from _of_state("estimator", estimator.state_file, estimator.state_config_map)
    if 0 < estimator.confidence < LEAST_CONFIDENCE:
        rule = f"must be 0 or from {LEAST_CONFIDENCE:g} to below 1"
        yield _problem("estimator.confidence", rule, estimator.confidence)


def _of_forecaster(settings: Settings) -> Iterator[Problem]:
    forecaster = settings.forecaster
    yield from _of_state("forecaster", forecaster.state_file, forecaster.state_config_map)


def _of_stability(settings: Settings) -> Iterator[Problem]:
    bounds = settings.stability
    yield from _of_state("stability", bounds.state_file, bounds.state_config_map)
    if 0 < bounds.max_replicas < bounds.min_replicas:
        rule = f"must be >= stability.min_replicas ({bounds.min_replicas})"
        yield _problem("stability.max_replicas", rule, bounds.max_replicas)


def _of_actuator(settings: Settings) -> Iterator[Problem]:
    chosen = settings.actuator
    yield from _of_state("actuator", chosen.state_file, chosen.state_config_map)
    if chosen.siblings and not (chosen.templates or chosen.object_templates):
        rule = "needs actuator.templates, or object_templates: nothing else makes siblings real"
        yield Problem("actuator.siblings", rule, "true")


def _of_config_maps(settings: Settings) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for section in ("estimator", "forecaster", "stability", "actuator"):
        name = getattr(settings, section).state_config_map
        if name and name in seen:
            rule = (
                f"must not be that of {seen[name]}.state_config_map: each would replace the other"
            )
            yield Problem(f"{section}.state_config_map", rule, name)
        seen.setdefault(name, section)


def _of_state(section: str, file: str, config_map: str) -> Iterator[Problem]:
    if file and config_map:
        rule = f"cannot be given with {section}.state_file: one of the two is kept"
        yield Problem(f"{section}.state_config_map", rule, config_map)


def _of_credentials(settings: Settings) -> Iterator[Problem]:
    source = settings.prometheus
    if source.username and not source.password_file:
        yield Problem("prometheus.password_file", "is required with prometheus.username")
    if source.password_file and not source.username:
        yield Problem("prometheus.username", "is required with prometheus.password_file")
    if source.token_file and source.username:
        # One of two credentials would be left out without a word.
        yield Problem("prometheus.token_file", "cannot be given with prometheus.username")


_RULES: Final[tuple[tuple[tuple[str, ...], Callable[[Settings], Iterator[Problem]]], ...]] = (
    (("lease",), _of_lease),
    (("lease", "actuator"), _of_writes),
    (("collector",), _of_samples),
    (("cluster",), _of_targets),
    (("capacity",), _of_capacity),
    (("estimator",), _of_estimator),
    (("forecaster",), _of_forecaster),
    (("stability",), _of_stability),
    (("actuator",), _of_actuator),
    (("estimator", "forecaster", "stability", "actuator"), _of_config_maps),
    (("prometheus",), _of_credentials),
)
"""Each rule with the sections that it looks at."""


def _problem(path: str, rule: str, value: float) -> Problem:
    return Problem(path, rule, f"{value:g}")
