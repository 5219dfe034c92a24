from __future__ import annotations

import pytest

from controlloop.errors import SettingsError
from controlloop.settings.file import (
    assigned_overrides,
    environment_overrides,
    read_settings,
    setting_names,
)
from controlloop.settings.tree import Settings


def test_an_empty_file_is_every_default() -> None:
    assert read_settings("") == Settings()
    assert read_settings("cycle:\nlog:\n") == Settings()


def test_the_file_then_the_overrides() -> None:
    text = "cycle: {period_s: 30, deadline_s: 20}"
    settings = read_settings(text, overrides={"cycle.period_s": 15, "http.port": 0})
    assert (settings.cycle.period_s, settings.cycle.deadline_s) == (15, 20)
    assert settings.http.port == 0


def test_all_problems_at_once_with_path_rule_and_value() -> None:
    text = "cycle: {perod_s: 30, deadline_s: -1}\nclustr: {}\nlog: {level: loud}\nlease: 3\n"
    with pytest.raises(SettingsError) as caught:
        read_settings(text, "settings.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert all(line.startswith("settings.yaml: ") for line in lines)
    text = str(caught.value)
    assert "cycle.perod_s: is not a setting; did you mean period_s?" in text
    assert "cycle.deadline_s: must be > 0, got -1" in text
    assert "clustr: is not a setting; did you mean cluster?" in text
    assert "log.level" in text
    assert "lease: must be an object" in text


@pytest.mark.parametrize("text", ["a: [", "- 1", "just words"])
def test_what_is_not_a_tree_of_sections_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        read_settings(text, "settings.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{" * 2000, "is not YAML"),
        ("cycle: {period_s: " + "9" * 5000 + "}", "is not YAML"),
        ("on: {}", "True: is not a setting"),
        ("cycle: &a {period_s: *a}", "cycle.period_s: must be a number, got a deeply nested value"),
        ("lease: {duration_s: 1" + "0" * 400 + "}", "lease.duration_s: must be <= 2147483647"),
    ],
    ids=["deep", "digits", "key", "alias", "large"],
)
def test_what_yaml_allows_and_nobody_means_is_told(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_settings(text, "settings.yaml")


def test_values_that_nobody_means_are_told_where_they_are_given() -> None:
    with pytest.raises(SettingsError, match="must be a YAML value"):
        assigned_overrides(["cycle.period_s=" + "[" * 3000])
    with pytest.raises(SettingsError, match="must be a YAML value"):
        environment_overrides({"CONTROLLOOP_CYCLE_PERIOD_S": "9" * 5000})


def test_the_environment_sets_by_name() -> None:
    found = environment_overrides(
        {"CONTROLLOOP_CYCLE_PERIOD_S": "5", "CONTROLLOOP_PROMETHEUS_URL": "http://p", "PATH": "x"}
    )
    assert found == {"cycle.period_s": 5, "prometheus.url": "http://p"}


def test_an_unknown_variable_is_named_with_the_nearest_known() -> None:
    with pytest.raises(SettingsError, match="did you mean CONTROLLOOP_CYCLE_PERIOD_S"):
        environment_overrides({"CONTROLLOOP_CYCLE_PERIOD": "5"})


def test_every_setting_says_its_meaning_and_numbers_their_unit() -> None:
    schema = Settings.model_json_schema()
    for dotted in setting_names():
        section, _, name = dotted.partition(".")
        reference = schema["properties"][section]
        kind = reference.get("$ref", reference.get("allOf", [{}])[0].get("$ref", ""))
        field = schema["$defs"][kind.rsplit("/", 1)[1]]["properties"][name]
        assert field["description"], dotted
        if field.get("type") == "number":
            assert field["unit"], dotted


def test_a_service_that_is_called_as_we_are_is_no_setting() -> None:
    links = {
        "CONTROLLOOP_SERVICE_HOST": "10.0.0.1",
        "CONTROLLOOP_SERVICE_PORT_HTTP": "8080",
        "CONTROLLOOP_PORT": "tcp://10.0.0.1:8080",
        "CONTROLLOOP_PORT_8080_TCP_ADDR": "10.0.0.1",
        "CONTROLLOOP_HTTP_PORT": "tcp://10.0.0.1:8080",
    }
    assert environment_overrides(links) == {}
    assert environment_overrides({"CONTROLLOOP_HTTP_PORT": "81"}) == {"http.port": 81}


def test_the_command_line_sets_by_name_and_complains_of_all_that_it_cannot() -> None:
    given = ["cycle.period_s=5", "prometheus.url=", 'collector.matchers=a="b"']
    assert assigned_overrides(given) == {
        "cycle.period_s": 5,
        "prometheus.url": "",
        "collector.matchers": 'a="b"',
    }
    with pytest.raises(SettingsError) as caught:
        assigned_overrides(["period=5", "log.level", "collector.matchers={a"])
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("text", ["log:\nlog:\n", "cycle:\n  period_s: 5\n  period_s: 6\n"])
def test_a_key_that_is_given_twice_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is given twice"):
        read_settings(text, "settings.yaml")


def test_a_problem_of_an_override_is_not_said_to_be_the_files() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings("http: {port: -2}", "settings.yaml", {"cycle.period_s": "abc"})
    assert sorted(str(caught.value).splitlines()) == [
        'environment or command line: cycle.period_s: must be a number, got "abc"',
        "settings.yaml: http.port: must be >= -1, got -2",
    ]


def test_a_wrong_key_of_a_template_is_named_with_the_nearest_one() -> None:
    text = "actuator: {templates: {A100: {limitz: {}, engine: tgi}}}"
    with pytest.raises(SettingsError) as caught:
        read_settings(text)
    said = [str(each) for each in caught.value.problems]
    assert "actuator.templates.A100.limitz: is not a setting; did you mean limits?" in said
    assert any(each.startswith("actuator.templates.A100.engine: must be 'vllm'") for each in said)
