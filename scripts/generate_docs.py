"""Writes the pages that the code itself knows: docs/settings.md, docs/metrics.md, settings.yaml.

With --check it writes nothing and exits 1 if one of them is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controlloop.settings.tree import Settings
from controlloop.telemetry import Metrics

ROOT = Path(__file__).resolve().parent.parent


def sections() -> Iterator[tuple[str, str, type[BaseModel]]]:
    """Name, meaning and model of each section."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield name, (kind.__doc__ or "").strip(), kind


def default_of(field: FieldInfo) -> str:
    """A setting's default as YAML's flow style writes it, which is JSON."""
    value = field.get_default(call_default_factory=True)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def extra_of(field: FieldInfo, key: str) -> str:
    """A setting's unit or off-value."""
    extra: Any = field.json_schema_extra
    return str(extra.get(key, "")) if isinstance(extra, dict) else ""


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from `controlloop/settings/`; do not edit.",
        "",
        (
            "Settings stand in `settings.yaml` of the configuration folder. The environment comes "
            "before the file (`CONTROLLOOP_CYCLE_PERIOD_S=30`), the command line before both "
            "(`--set cycle.period_s=30`)."
        ),
        "",
    ]
    for section, meaning, kind in sections():
        lines += [f"## {section}", "", meaning, ""]
        lines += ["| setting | meaning | unit | default | off |", "| --- | --- | --- | --- | --- |"]
        for name, field in kind.model_fields.items():
            default, unit, off = default_of(field), extra_of(field, "unit"), extra_of(field, "off")
            lines.append(f"| `{name}` | {field.description} | {unit} | `{default}` | {off} |")
        lines.append("")
    return "\n".join(lines)


def settings_file() -> str:
    """config/settings.yaml: every setting at its default."""
    lines = ["# Every setting at its default; docs/settings.md says the same as tables."]
    for section, meaning, kind in sections():
        lines += ["", f"# {meaning}", f"{section}:"]
        for name, field in kind.model_fields.items():
            unit, off = extra_of(field, "unit"), extra_of(field, "off")
            comment = f"{field.description}"
            comment += f" [{unit}]" if unit else ""
            comment += f"; off: {off}" if off else ""
            lines += textwrap.wrap(comment, 92, initial_indent="  # ", subsequent_indent="  # ")
            lines.append(f"  {name}: {default_of(field)}")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        (
            "Made by `make docs` from `controlloop/telemetry.py`; do not edit. The daemon serves "
            "them at `/metrics`."
        ),
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for metric in Metrics().every:
        family = next(iter(metric.collect()))
        suffix = "_total" if family.type == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - it has no public name
        lines.append(
            f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description="Writes the pages that the code itself knows.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    pages = {
        ROOT / "docs" / "settings.md": settings_page(),
        ROOT / "docs" / "metrics.md": metrics_page(),
        ROOT / "config" / "settings.yaml": settings_file(),
    }
    old = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    for path in old:
        sys.stdout.write(f"{'differs' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.write_text(pages[path])
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
