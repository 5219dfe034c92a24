from __future__ import annotations

import re
from pathlib import Path

import pytest

from controlloop.rest.commands import COMMANDS
from controlloop.rest.options import DEFAULT_HOST, DEFAULT_MAX_BODY_MB, DEFAULT_PORT


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "rest.md").read_text()


def test_the_table_of_the_page_is_the_table_of_commands(page: str) -> None:
    row = r"^\| (GET|POST) \| `(.+?)` \| (.*?) ?\| (.+?) \| (\w+) \|$"
    assert re.findall(row, page, re.MULTILINE) == [
        (
            command.verb,
            command.path,
            " or ".join(form.__name__ for form in command.body.forms) if command.body else "",
            command.answer.__name__ if command.answer else "list of names",
            "stateful" if command.needs_full else "both",
        )
        for command in COMMANDS
    ]


def test_the_defaults_of_the_page_are_those_of_the_server(page: str) -> None:
    for name, value in (
        ("INFERNO_HOST", DEFAULT_HOST),
        ("INFERNO_PORT", str(DEFAULT_PORT)),
    ):
        assert re.search(rf"`{name}` \| .* \| `{value}` \|", page)
    assert f"| `{DEFAULT_MAX_BODY_MB:g}` |" in page


def test_the_page_gives_only_addresses_of_this_machine(page: str) -> None:
    hosts = re.findall(r"curl (\S+?)[:/]", page)
    assert set(hosts) == {"localhost"}
