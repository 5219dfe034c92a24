"""`controlloop status`: the fleet at a glance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from controlloop.cli.options import ConfigOption, ContextOption, KubeconfigOption, SettingsOption
from controlloop.cli.remarks import remarks
from controlloop.cli.run import Format
from controlloop.cli.tables import UNKNOWN, plain_table, print_tables

STYLES: Final = {"hold": "yellow", "keep": "dim"}


def status(
    *,
    url: Annotated[
        str | None,
        typer.Option(help="A daemon's address: shows its last cycle instead of looking itself."),
    ] = None,
    config: ConfigOption = Path("config"),
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    set_: SettingsOption = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Show every server: what it has, should have and serves, load, latencies, what holds it.

    Latencies are as seen, and as predicted for what it should have. Nothing is changed: without
    --url one cycle is run as a dry run, here.

    Examples:
      controlloop status --url http://controlloop.inferno:8080

      controlloop status --config config --kubeconfig ~/.kube/config
    """
    document = _of_daemon(url) if url else _of_own_look(config, kubeconfig, context, set_ or [])
    if output is Format.JSON:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_tables(status_table(document))
        for line in ["seen / predicted for what it should have", *remarks(document)]:
            typer.echo(line, err=True)
    if not document["succeeded"]:
        raise typer.Exit(1)


def _of_daemon(url: str) -> dict[str, Any]:
    import requests

    from controlloop.errors import ControlLoopError

    address = f"{url.rstrip('/')}/report"
    try:
        answer = requests.get(address, timeout=10)
        document = answer.json()
    except requests.RequestException as error:
        raise ControlLoopError(f"{address} cannot be read: {error}") from error
    if not isinstance(document, dict) or "servers" not in document:
        said = document.get("message", "") if isinstance(document, dict) else ""
        raise ControlLoopError(f"{address} gives no report (HTTP {answer.status_code}): {said}")
    return document


def _of_own_look(
    config: Path, kubeconfig: Path | None, context: str | None, assigned: list[str]
) -> dict[str, Any]:
    from controlloop.api.report_document import report_document
    from controlloop.composition.cluster import ClusterChoice
    from controlloop.composition.configuration import load_settings
    from controlloop.composition.daemon import build_daemon
    from controlloop.settings.file import assigned_overrides

    # Nothing is written anywhere, and only what goes wrong is told beside the table.
    looking = {"actuator.mode": "dry-run", "report.file": "", "recording.file": ""}
    quiet = {"log.level": "error", "http.port": -1, "cluster.watch": False}
    settings = load_settings(config, assigned_overrides(assigned) | looking | quiet)
    daemon = build_daemon(settings, config, ClusterChoice(kubeconfig, context), looking=True)
    return report_document(daemon.run_once())


def status_table(document: Mapping[str, Any]) -> Table:
    """One row a server, and below it one a sibling, from a report as a document.

    What is measured is of all of them together, and stands with the server.
    """
    numbers = ("Replicas", "Ready", "Req/min", "ITL ms", "TTFT ms")
    table = plain_table("Server", "On", *numbers, "Waiting", "Trust", "State", right=numbers)
    trust = {(one["model"], one["accelerator"]): one["trust"] for one in document["estimates"]}
    for each in document["servers"]:
        signals = each.get("signals") or {}
        if "current" not in each:
            table.add_row(each["server"], *[UNKNOWN] * 8, "not decided")
            continue
        current, desired = each["current"], each["desired"]
        before, after = current["numReplicas"], desired["numReplicas"]
        moved = current["accelerator"] != desired["accelerator"]
        on = f"{current['accelerator']} -> {desired['accelerator']}" if moved else None
        table.add_row(
            each["server"],
            on or current["accelerator"] or "-",
            str(before) if before == after else f"{before} -> {after}",
            UNKNOWN if each.get("readyReplicas") is None else str(each["readyReplicas"]),
            _seen(signals.get("arrivalRate")),
            f"{_seen(signals.get('itlAverage'))} / {_predicted(desired['itlAverage'])}",
            f"{_seen(signals.get('ttftAverage'))} / {_predicted(desired['ttftAverage'])}",
            _seen(signals.get("waiting")),
            trust.get((each.get("model"), current["accelerator"]), "-"),
            _state(each),
        )
        for one in each.get("siblings", ()):
            counts = str(one["replicas"]), str(one["readyReplicas"])
            blank = [""] * 5
            table.add_row("  beside it", one["accelerator"] or "-", *counts, *blank, "sibling")
    return table


def _state(each: Mapping[str, Any]) -> Text:
    action = each["action"]
    style = STYLES.get(action, "green")
    holds = ", ".join(dict.fromkeys(hold["reason"] for hold in each["holds"]))
    return Text.assemble((action, style), f": {holds}" if holds else "")


def _seen(reading: Mapping[str, Any] | None) -> str:
    if reading is None or reading["state"] == "missing":
        return UNKNOWN
    old = f" ({reading['age']:.0f} s old)" if reading["state"] == "stale" else ""
    return f"{_number(reading['value'])}{old}"


def _predicted(latency_ms: float) -> str:
    """Where nothing was predicted the documented form has a 0: no latency is that."""
    return _number(latency_ms) if latency_ms else UNKNOWN


def _number(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
