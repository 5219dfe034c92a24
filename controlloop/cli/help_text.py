"""Help that flows: typer keeps a docstring's line breaks, which wrap oddly on a terminal."""

from __future__ import annotations

import inspect
import re

import typer

_PARAGRAPHS = re.compile(r"\n\s*\n")


def flowing(text: str) -> str:
    """`text` with each paragraph on one line; paragraphs that are indented stay as they are."""
    paragraphs = _PARAGRAPHS.split(inspect.cleandoc(text))
    return "\n\n".join(one if one.startswith(" ") else " ".join(one.split()) for one in paragraphs)


def let_help_flow(app: typer.Typer) -> None:
    """Give every command of `app` and of its groups help that flows."""
    for command in app.registered_commands:
        if command.help is None and command.callback is not None:
            command.help = flowing(command.callback.__doc__ or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            let_help_flow(group.typer_instance)
