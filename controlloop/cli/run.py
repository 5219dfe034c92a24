"""`controlloop run`: the daemon, or one cycle."""

from __future__ import annotations

import inspect
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from controlloop.api.report import CycleReport
from controlloop.api.report_document import report_document
from controlloop.cli.options import ConfigOption, ContextOption, KubeconfigOption, SettingsOption
from controlloop.cli.remarks import all_done, remarks
from controlloop.cli.tables import decisions_table, print_tables


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


class DataFrom(StrEnum):
    """Where the static data comes from."""

    FILES = "files"
    CRDS = "crds"


EXAMPLES = """
Examples:

  controlloop run --config config                    the daemon, in a cluster or by kubeconfig

  controlloop run --config config --once --dry-run   one cycle; prints decisions, sends nothing

  controlloop run --set cycle.period_s=30 --set prometheus.url=http://prometheus:9090
"""


def run(
    *,
    config: ConfigOption = Path("config"),
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    period: Annotated[
        float | None, typer.Option(help="Control period in seconds; 0 is on demand.", min=0)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Run one cycle and exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; send nothing.")
    ] = False,
    source: Annotated[
        DataFrom | None,
        typer.Option(help="Where accelerators, models and classes come from."),
    ] = None,
    report: Annotated[
        str | None, typer.Option(help="Append a JSON line a cycle to this file; '-' is stdout.")
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write each cycle's inputs to it, for `replay`."),
    ] = None,
    set_: SettingsOption = None,
    output: Annotated[
        Format, typer.Option("--format", help="How --once prints its decisions.")
    ] = Format.TABLE,
) -> None:
    """Run the control loop: observe, decide and act, every period.

    Exit code 1: the single cycle failed, or a change that it decided was not made. 2: bad
    settings or data files, every problem on stderr.
    """
    from controlloop.composition.cluster import ClusterChoice
    from controlloop.composition.configuration import load_settings
    from controlloop.composition.daemon import build_daemon
    from controlloop.settings.file import assigned_overrides

    overrides = assigned_overrides(set_ or [])
    given: dict[str, Any] = {
        "cycle.period_s": period,
        "report.file": report,
        "recording.file": record,
        "data.source": source and str(source),
    }
    overrides |= {name: value for name, value in given.items() if value is not None}
    if dry_run:
        overrides["actuator.mode"] = "dry-run"
    if once:
        # What is looked at once need not be followed.
        overrides["cluster.watch"] = False
    settings = load_settings(config, overrides)
    daemon = build_daemon(settings, config, ClusterChoice(kubeconfig, context))
    if not once:
        daemon.run()
        return
    done = daemon.run_once()
    document = report_document(done)
    _print(done, document, output)
    if not all_done(document):
        raise typer.Exit(1)


run.__doc__ = f"{inspect.cleandoc(run.__doc__ or '')}\n{EXAMPLES}"


def _print(report: CycleReport, document: dict[str, Any], output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps(document, indent=2))
        return
    if report.decisions is not None:
        known = report.forecast.loads if report.forecast else ()
        print_tables(decisions_table(report.decisions.decisions, known))
    for line in remarks(document):
        typer.echo(line, err=True)
