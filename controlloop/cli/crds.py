"""`controlloop crds`: the definitions of our custom resources."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """How the definitions are printed."""

    YAML = "yaml"
    JSON = "json"


def crds(
    *,
    output: Annotated[
        Format, typer.Option("--format", help="YAML documents, or one JSON list object.")
    ] = Format.YAML,
) -> None:
    """Print the CustomResourceDefinitions that `controller` and `run --source crds` work on.

    Examples:
      controlloop crds | kubectl apply -f -

      controlloop crds --format json > crds.json
    """
    import yaml

    from controlloop.api.custom_definitions import custom_resource_definitions

    definitions = custom_resource_definitions()
    if output is Format.JSON:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(definitions)}
        typer.echo(json.dumps(listed, indent=2))
        return
    # Aliases would be one more thing to read.
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    typer.echo(yaml.dump_all(definitions, Dumper=dumper, sort_keys=False), nl=False)
