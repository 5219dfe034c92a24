from __future__ import annotations

import pytest

from controlloop.errors import SettingsError
from controlloop.settings.file import read_settings


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("lease: {duration_s: 10, renew_every_s: 5}", "lease.renew_every_s"),
        ("lease: {duration_s: 9}", "actuator.write_timeout_s"),
        ("collector: {window_s: 30}", "collector.stale_after_s"),
        ("cluster: {scale_targets: {A: apps/v1}}", "cluster.scale_targets.A"),
        ("cluster: {scale_targets: {Deployment: a/b/c}}", "cluster.scale_targets.Deployment"),
        ("capacity: {source: elastic}", "capacity.maximum"),
        ("capacity: {maximum: {A100: -1}}", "capacity.maximum.A100"),
        ("stability: {min_replicas: 4, max_replicas: 3}", "stability.max_replicas"),
        ("prometheus: {username: someone}", "prometheus.password_file"),
        ("prometheus: {password_file: /secret}", "prometheus.username"),
        ("prometheus: {token_file: /t, username: a, password_file: /p}", "prometheus.token_file"),
        ("estimator: {state_file: f, state_config_map: a/b}", "estimator.state_config_map"),
        ("forecaster: {state_file: f, state_config_map: a/b}", "forecaster.state_config_map"),
        ("estimator: {state_config_map: no-namespace}", "estimator.state_config_map"),
        ("estimator: {state_config_map: a/B}", "estimator.state_config_map"),
    ],
)
def test_values_that_are_bad_together_are_refused(text: str, setting: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(text)
    assert setting in [problem.path for problem in caught.value.problems]


def test_rules_are_checked_beside_values_that_are_bad_alone() -> None:
    text = (
        "cycle: {period_s: -1}\ncapacity: {source: elastic}\n"
        "lease: {duration_s: soon, renew_every_s: 100}\nlog: {levle: info}\n"
    )
    with pytest.raises(SettingsError) as caught:
        read_settings(text, "settings.yaml")
    # What the lease lasts is not known: no rule is held against it.
    assert [problem.path for problem in caught.value.problems] == [
        "cycle.period_s",
        "lease.duration_s",
        "log.levle",
        "capacity.maximum",
    ]


def test_a_lease_that_is_wrong_is_not_held_against_the_writes_too() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings("lease: {renew_every_s: 100}")
    assert [problem.path for problem in caught.value.problems] == ["lease.renew_every_s"]


def test_without_a_lease_its_length_bounds_no_write() -> None:
    settings = read_settings("lease: {enabled: false, duration_s: 9}")
    assert not settings.lease.enabled
