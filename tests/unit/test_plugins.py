from __future__ import annotations

from pathlib import Path

import pytest

from controlloop.errors import UnknownPluginError
from controlloop.plugins import Registry


def shapes() -> Registry[list[int]]:
    registry: Registry[list[int]] = Registry("shape", list)
    registry.add("empty", list)
    registry.add("row", lambda length=1: [0] * length)
    return registry


def test_a_plugin_is_built_by_its_name_with_its_arguments() -> None:
    assert shapes().create("row", length=3) == [0, 0, 0]


def test_names_stand_in_the_order_in_which_they_were_added() -> None:
    assert shapes().names == ("empty", "row")


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="shape 'row' is registered already"):
        shapes().add("row", list)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownPluginError, match="unknown shape 'ring': known are empty, row"):
        shapes().create("ring")


def test_a_third_party_is_named_by_module_and_factory() -> None:
    assert shapes().create("builtins:list", (1, 2)) == [1, 2]


def test_a_module_that_fails_when_it_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_module.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = "shape 'failing_module:X' cannot be loaded: RuntimeError: no licence"
    with pytest.raises(UnknownPluginError, match=words):
        shapes().create("failing_module:X")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no.such.module:Factory", "cannot be loaded: No module named"),
        ("json:Factory", "cannot be loaded: module 'json' has no attribute 'Factory'"),
        (":Factory", "cannot be loaded"),
        ("math:pi", "is not a factory: it is 3.14"),
    ],
)
def test_a_third_party_that_cannot_be_had_says_why(name: str, reason: str) -> None:
    with pytest.raises(UnknownPluginError, match=reason):
        shapes().create(name)


def test_a_third_partys_factory_that_fails_is_named() -> None:
    with pytest.raises(UnknownPluginError, match="shape 'json:loads' cannot be built: TypeError"):
        shapes().create("json:loads")


def test_a_defect_of_a_plugin_of_ours_is_not_disguised() -> None:
    with pytest.raises(TypeError):
        shapes().create("row", width=3)


def test_a_factory_that_builds_something_else_is_refused() -> None:
    with pytest.raises(UnknownPluginError, match="gives a str, which is none"):
        Registry[list[int]]("shape", list).create("os:getcwd")
