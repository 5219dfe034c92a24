"""Reads settings: a YAML file, then the environment, then the command line; the last one wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from controlloop.api.rules import problem_of
from controlloop.errors import Problem, SettingsError
from controlloop.settings.rules import broken_rules
from controlloop.settings.templates import TemplateSettings
from controlloop.settings.tree import Settings

ENVIRONMENT_PREFIX: Final = "CONTROLLOOP_"
OVERRIDES: Final = "environment or command line"
SERVICE_LINK: Final = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)=|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=|_PORT=\w+://"
)
"""Kubernetes tells a pod of each Service so: one called controlloop must not stop the daemon."""

# What PyYAML raises beside its own: nesting too deep, and numbers and dates that Python refuses.
_EXTREME: Final = (RecursionError, ValueError)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a file says, and all that is wrong with it.

    Attributes:
        settings: where a section is bad, its defaults.
        problems: every problem found.
        bad: the sections of which some value is bad by itself.

    """

    settings: Settings
    problems: tuple[Problem, ...] = ()
    bad: frozenset[str] = frozenset()


def read_settings(
    text: str, source: str = "", overrides: Mapping[str, object] | None = None
) -> Settings:
    """The settings of a file's text, with overrides on top.

    Args:
        text: YAML; empty is every default.
        source: the file's name, for messages.
        overrides: dotted setting ("cycle.period_s") -> value.

    Raises:
        SettingsError: every problem found, each with its path, rule and value.

    """
    found = examine_settings(text, source, overrides)
    if found.problems:
        raise SettingsError(found.problems, source)
    return found.settings


def examine_settings(
    text: str, source: str = "", overrides: Mapping[str, object] | None = None
) -> Examined:
    """As `read_settings`, but what is bad is told beside what is good.

    Raises:
        SettingsError: the text is no tree of sections.

    """
    tree = _parse(text, source)
    for dotted, value in (overrides or {}).items():
        section, _, name = dotted.partition(".")
        below = tree.setdefault(section, {})
        if isinstance(below, dict):
            below[name] = value
    try:
        settings, problems, bad = Settings.model_validate(tree), [], frozenset[str]()
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [
            _unknown_key(each["loc"]) if each["type"] == "extra_forbidden" else problem_of(each)
            for each in found
        ]
        bad = frozenset(str(each["loc"][0]) for each in found)
        good = {section: below for section, below in tree.items() if section not in bad}
        settings = Settings.model_validate(good)
    problems += broken_rules(settings, bad)
    return Examined(settings, _placed(problems, source, overrides or {}), bad)


def environment_overrides(environment: Mapping[str, str]) -> dict[str, object]:
    """Settings given as variables: CONTROLLOOP_CYCLE_PERIOD_S=30 is cycle.period_s.

    Raises:
        SettingsError: a variable with the prefix names no setting, or holds no value.

    """
    known = {_variable(dotted): dotted for dotted in setting_names()}
    overrides: dict[str, object] = {}
    problems: list[Problem] = []
    for variable, text in sorted(environment.items()):
        of_ours = variable.startswith(ENVIRONMENT_PREFIX)
        if not of_ours or SERVICE_LINK.search(f"{variable}={text}"):
            continue
        if variable not in known:
            near = get_close_matches(variable, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(Problem(variable, f"is not a setting{hint}"))
            continue
        try:
            overrides[known[variable]] = _value(text)
        except (yaml.YAMLError, *_EXTREME):
            problems.append(Problem(variable, "must be a YAML value", text))
    if problems:
        raise SettingsError(problems, "environment")
    return overrides


def assigned_overrides(assignments: Iterable[str]) -> dict[str, object]:
    """Settings given on the command line, each as section.name=value.

    Raises:
        SettingsError: every one that is not of this form, or holds no value.

    """
    overrides: dict[str, object] = {}
    problems: list[Problem] = []
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            problems.append(Problem("--set", "must be section.name=value", text))
            continue
        try:
            overrides[name.strip()] = _value(value)
        except (yaml.YAMLError, *_EXTREME):
            problems.append(Problem(f"--set {name}", "must be a YAML value", value))
    if problems:
        raise SettingsError(problems, "command line")
    return overrides


def setting_names() -> Iterator[str]:
    """Every setting, dotted, in the order of the tree."""
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{section}.{name}" for name in kind.model_fields)


def _value(text: str) -> object:
    return yaml.safe_load(text) if text else ""


def _variable(dotted: str) -> str:
    return ENVIRONMENT_PREFIX + dotted.replace(".", "_").upper()


def _placed(
    problems: Iterable[Problem], source: str, overrides: Mapping[str, object]
) -> tuple[Problem, ...]:
    """Problems of overrides are not the file's: whoever reads them must not search there."""
    return tuple(
        replace(each, source=OVERRIDES if each.path in overrides else source) for each in problems
    )


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the signature of PyYAML
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"{key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        # A subclass of the safe loader, which makes nothing but plain values.
        tree = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506
    except (yaml.YAMLError, *_EXTREME) as error:
        raise SettingsError([Problem("", f"is not YAML: {error}")], source) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError([Problem("", "must be an object of sections", repr(tree))], source)
    # A section that is named and left empty is all defaults. YAML takes `on` for a truth value.
    return {str(section): {} if below is None else below for section, below in tree.items()}


def _unknown_key(location: tuple[int | str, ...]) -> Problem:
    names = [str(part) for part in location]
    siblings = (
        list(Settings.model_fields)
        if len(names) == 1
        else [dotted.partition(".")[2] for dotted in setting_names() if dotted.startswith(names[0])]
    )
    if names[:2] == ["actuator", "templates"]:
        siblings = list(TemplateSettings.model_fields)
    near = get_close_matches(names[-1], siblings, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(siblings)}"
    return Problem(".".join(names), f"is not a setting; {hint}")
