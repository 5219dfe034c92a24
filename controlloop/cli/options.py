"""Options that several commands share: which configuration, and which cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ConfigOption: TypeAlias = Annotated[
    Path, typer.Option(help="Folder with settings.yaml and the data files.")
]
KubeconfigOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Kubeconfig file; default: in-cluster, else the usual.")
]
ContextOption: TypeAlias = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
SettingsOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting, as section.name=value.")
]
