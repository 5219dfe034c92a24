"""Writes the Grafana dashboard over the daemon's metrics, in deploy/overlays/monitoring.

With --check it writes nothing and exits 1 if the file is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = ROOT / "deploy" / "overlays" / "monitoring" / "dashboard.json"
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
WIDTH: Final = 24
SERVER: Final = 'server=~"$server"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries by legend, a unit of Grafana's, columns of 24 that it is wide."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    width: int = 8
    kind: str = "timeseries"
    says: str = ""


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Is it working?": (
        Panel("Leaders", {"": "sum(controlloop_leader)"}, width=4, kind="stat", says="1 is right."),
        Panel(
            "Since the last cycle",
            {"": "time() - max(controlloop_last_cycle_timestamp_seconds > 0)"},
            "s",
            4,
            "stat",
        ),
        Panel(
            "Metric source fails",
            {"": "max(controlloop_metric_source_problem)"},
            width=4,
            kind="stat",
            says="1: nothing shrinks until it answers.",
        ),
        Panel(
            "Data is bad",
            {"": "max(controlloop_data_problem)"},
            width=4,
            kind="stat",
            says="1: the last good data is in force.",
        ),
        Panel(
            "Cycles",
            {"{{outcome}}": "sum by (outcome) (rate(controlloop_cycles_total[5m])) * 60"},
            "cpm",
        ),
    ),
    "The fleet": (
        Panel(
            "Replicas",
            {
                "{{server}} {{which}}": (
                    f"max by (server, which) (controlloop_server_replicas{{{SERVER}}})"
                )
            },
        ),
        Panel(
            "Arrivals that servers are sized for",
            {"{{server}}": (f"max by (server) (controlloop_server_arrival_rate_rps{{{SERVER}}})")},
            "reqps",
        ),
        Panel(
            "Cost, cents an hour",
            {
                "{{which}}": (
                    "sum by (which) (max by (server, which)"
                    f" (controlloop_server_cost_cents_per_hour{{{SERVER}}}))"
                )
            },
        ),
        Panel(
            "Predicted ITL",
            {
                "{{server}}": (
                    "max by (server) (controlloop_server_predicted_milliseconds"
                    f'{{latency="itl", {SERVER}}})'
                )
            },
            "ms",
        ),
        Panel(
            "Predicted TTFT",
            {
                "{{server}}": (
                    "max by (server) (controlloop_server_predicted_milliseconds"
                    f'{{latency="ttft", {SERVER}}})'
                )
            },
            "ms",
        ),
        Panel("Cards that exist", {"{{type}}": "max by (type) (controlloop_capacity_cards)"}),
    ),
    "What it decides, and what holds it": (
        Panel(
            "Decisions a minute",
            {"{{action}}": "sum by (action) (rate(controlloop_decisions_total[5m])) * 60"},
        ),
        Panel(
            "Holds in force",
            {"{{reason}} ({{forbids}})": "max by (reason, forbids) (controlloop_holds)"},
        ),
        Panel(
            "Patches a minute",
            {"{{status}}": "sum by (status) (rate(controlloop_patches_total[5m])) * 60"},
        ),
        Panel(
            "Time of the stages, mean",
            {
                "{{stage}}": (
                    "sum by (stage) (rate(controlloop_stage_seconds_sum[5m]))"
                    " / sum by (stage) (rate(controlloop_stage_seconds_count[5m]))"
                )
            },
            "s",
            12,
        ),
        Panel(
            "Cycles that failed, in 15 minutes",
            {
                "{{stage}}: {{error}}": (
                    "sum by (stage, error) (increase(controlloop_cycle_failures_total[15m]))"
                )
            },
            width=12,
        ),
    ),
    "What it learns": (
        Panel(
            "Latency, observed and predicted before it was learned",
            {
                "{{model}} on {{accelerator}}: {{latency}} {{which}}": (
                    "max by (model, accelerator, latency, which)"
                    " (controlloop_tuner_latency_milliseconds)"
                )
            },
            "ms",
            12,
        ),
        Panel(
            "Trust",
            {
                "{{model}} on {{accelerator}}: {{trust}}": (
                    "max by (model, accelerator, trust) (controlloop_tuner_trust) == 1"
                )
            },
            width=12,
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's form."""
    return {
        "title": "controlloop",
        "uid": "controlloop",
        "tags": ["controlloop", "inference"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _server()]},
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        row = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": row, "panels": []}
        left, top = 0, top + 1
        for panel in panels:
            number += 1
            if left + panel.width > WIDTH:
                left, top = 0, top + 8
            yield _panel(panel, number, left, top)
            left += panel.width
        top += 8


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    targets = [
        {"datasource": SOURCE, "refId": chr(ord("A") + at), "expr": query, "legendFormat": legend}
        for at, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _server() -> dict[str, Any]:
    return {
        "name": "server",
        "label": "Server",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(controlloop_server_replicas, server)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    text = json.dumps(dashboard(), indent=2) + "\n"
    if not arguments.check:
        FILE.write_text(text)
        return 0
    if FILE.read_text() == text:
        return 0
    sys.stderr.write(f"{FILE.relative_to(ROOT)} is not what scripts/make_dashboard.py writes\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
