"""Reads a configuration: the folder's file, the environment, what the command line sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from controlloop.api.files import is_folder
from controlloop.errors import Problem, SettingsError
from controlloop.settings.file import Examined, environment_overrides, examine_settings
from controlloop.settings.tree import Settings

SETTINGS_FILE: Final = "settings.yaml"


def load_settings(config: Path, overrides: Mapping[str, object]) -> Settings:
    """Settings of a configuration folder, then of the environment, then `overrides`.

    Raises:
        SettingsError: the folder or file cannot be read, or every problem found in them.

    """
    found = examine_config(config, overrides)
    if found.problems:
        raise SettingsError(found.problems)
    return found.settings


def examine_config(config: Path, overrides: Mapping[str, object]) -> Examined:
    """The same, with what is bad of them beside what is good.

    Raises:
        SettingsError: the folder or file cannot be read, or is no tree of sections.

    """
    if not is_folder(config):
        raise SettingsError([Problem("", "is not a folder with settings.yaml")], str(config))
    path = config / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem("", f"cannot be read: {error}")], str(path)) from error
    try:
        of_environment = environment_overrides(os.environ)
        problems: tuple[Problem, ...] = ()
    except SettingsError as error:
        of_environment = {}
        problems = tuple(replace(each, source=error.source) for each in error.problems)
    found = examine_settings(text, str(path), of_environment | dict(overrides))
    return replace(found, problems=found.problems + problems)


def data_folder(settings: Settings, config: Path) -> Path:
    """Where the data files are."""
    return config / settings.data.directory
