"""`controlloop doctor`: what keeps the loop from working, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from controlloop.cli.options import ConfigOption, ContextOption, KubeconfigOption, SettingsOption
from controlloop.cli.run import Format
from controlloop.cli.tables import plain_table, print_tables

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(
    *,
    config: ConfigOption = Path("config"),
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    set_: SettingsOption = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Check permissions, metrics, labels, conflicts and clocks; say what to do. Changes nothing.

    Exit code 1 where something keeps the loop from working; warnings leave it at 0.

    Examples:
      controlloop doctor --config config

      controlloop doctor --kubeconfig ~/.kube/config --context staging --format json
    """
    from controlloop.composition.cluster import ClusterChoice
    from controlloop.composition.configuration import load_settings
    from controlloop.composition.doctor import build_doctor
    from controlloop.settings.file import assigned_overrides

    settings = load_settings(config, assigned_overrides(set_ or []))
    findings = tuple(build_doctor(settings, config, ClusterChoice(kubeconfig, context)).examine())
    if output is Format.JSON:
        document = [
            {
                "level": str(each.level),
                "subject": each.subject,
                "found": each.found,
                "advice": each.advice,
            }
            for each in findings
        ]
        typer.echo(json.dumps(document, indent=2))
    else:
        table = plain_table("", "What", "Found", "What to do")
        for each in findings:
            level = Text(str(each.level), style=STYLES[each.level])
            table.add_row(level, each.subject, each.found, each.advice)
        print_tables(table)
    if any(each.level == "problem" for each in findings):
        raise typer.Exit(1)
