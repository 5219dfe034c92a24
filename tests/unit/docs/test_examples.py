"""The page of examples says what its commands say, and its pictures are there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "examples.md").read_text()


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The page made anew, and where its pictures are."""
    spec = importlib.util.spec_from_file_location("examples", root / "scripts/make_examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = tmp_path_factory.mktemp("images")
    return str(module.make(images)), images


def pictures(page: str) -> set[str]:
    return set(re.findall(r"\(images/([\w-]+\.png)\)", page))


def test_the_page_is_what_its_commands_print_now(page: str, made: tuple[str, Path]) -> None:
    assert page == made[0], "run `make docs`"


def test_every_picture_is_made_small_enough_and_shipped(
    page: str, made: tuple[str, Path], root: Path
) -> None:
    images = made[1]
    assert pictures(page) == {each.name for each in images.iterdir()}
    assert len(pictures(page)) >= 9
    for name in pictures(page):
        for folder in (images, root / "docs" / "images"):
            picture = (folder / name).read_bytes()
            assert picture.startswith(b"\x89PNG")
            assert len(picture) < MOST_BYTES, name


def test_the_published_examples_and_every_saturation_policy_are_there(page: str) -> None:
    for title in (
        "## Unlimited",
        "## The load changes, unlimited",
        "## Limited",
        "## The load changes, limited",
        "## Too few cards, under each saturation policy",
    ):
        assert title in page
    for policy in ("None", "PriorityExhaustive", "PriorityRoundRobin", "RoundRobin"):
        assert f"| `{policy}` |" in page


def test_the_replica_that_the_page_draws_is_one_of_the_sample(root: Path) -> None:
    replica = json.loads((root / "config/sample/replica.json").read_text())
    models = json.loads((root / "config/sample/model-data.json").read_text())["models"]
    perf = next(each for each in models if (each["name"], each["acc"]) == ("llama-3.1-8b", "A100"))
    for key, value in {**perf["decodeParms"], **perf["prefillParms"]}.items():
        assert replica[f"{key}_ms"] == value
