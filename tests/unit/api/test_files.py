"""System data from folders, files and standard input."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controlloop.api.convert import system_from_spec
from controlloop.api.files import (
    CAPACITY_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    PARTS,
    SERVER_FILE,
    document_text,
    read_file,
    read_folder,
    read_system,
    write_document,
)
from controlloop.api.reading import UnknownKeys, read_json
from controlloop.api.references import check_references
from controlloop.api.specs import AllocationSolution, OptimizerSpec, SystemData
from controlloop.errors import InputError


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    for name in PARTS:
        (tmp_path / name).write_bytes((root / "config" / "sample" / name).read_bytes())
    return tmp_path


def test_a_folder_one_file_and_standard_input_say_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_system(str(folder))
    whole = tmp_path / "whole.json"
    write_document(data, whole)
    assert read_system(str(whole)) == data
    stdin = io.TextIOWrapper(io.BytesIO(whole.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_system("-") == data


def test_every_problem_of_every_file_is_told_with_its_file(folder: Path) -> None:
    (folder / CAPACITY_FILE).write_text('{"count": [{"type": "L4", "count": -1}]}')
    (folder / MODEL_FILE).write_text('{"models": [}')
    (folder / SERVER_FILE).unlink()
    with pytest.raises(InputError) as caught:
        read_folder(folder)
    assert str(caught.value).splitlines() == [
        f"{folder / CAPACITY_FILE}: count[0].count: must be >= 0, got -1",
        f"{folder / MODEL_FILE}: line 1, column 13: is not JSON: expecting value",
        f"{folder / SERVER_FILE}: does not exist",
    ]


def test_optional_files_may_be_absent_and_take_their_defaults(folder: Path) -> None:
    for name in (SERVER_FILE, CAPACITY_FILE, OPTIMIZER_FILE):
        (folder / name).unlink()
    system = read_folder(folder, optional=(SERVER_FILE, CAPACITY_FILE, OPTIMIZER_FILE)).system
    assert system.server_data.servers == ()
    assert system.capacity_data.count == ()
    assert system.optimizer_data.optimizer == OptimizerSpec()


def test_an_optional_file_that_is_there_is_read_and_checked(folder: Path) -> None:
    (folder / OPTIMIZER_FILE).write_text('{"optimizer": {"milpSolvr": true}}')
    with pytest.raises(InputError, match="did you mean milpSolver"):
        read_folder(folder)
    data = read_folder(folder, unknown=UnknownKeys.IGNORE)
    assert not data.system.optimizer_data.optimizer.milp_solver


def test_a_place_where_nothing_can_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: does not exist$"):
        read_system(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere: is not a folder$"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"a: cannot be read: Is a directory$"):
        read_file(tmp_path / "a")


def test_a_place_that_cannot_even_be_looked_at_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"x: cannot be read: File name too long$"):
        read_system("x" * 300)
    with pytest.raises(InputError, match=r"x: is not a folder$"):
        read_folder(tmp_path / ("x" * 300))

    def denied(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # What may be absent is not taken for absent where nobody can tell.
    (folder / OPTIMIZER_FILE).write_text("{")
    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(InputError, match=f"{OPTIMIZER_FILE}: .*is not JSON"):
        read_folder(folder)


def test_a_document_is_written_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    solution = AllocationSolution(allocations={})
    target = tmp_path / "solution.json"
    target.write_text("old")
    write_document(solution, target)
    assert json.loads(target.read_text()) == {"allocations": {}}
    assert list(tmp_path.iterdir()) == [target]
    assert document_text(solution).endswith("}\n")


def test_published_sample_data_is_read_whatever_its_case(
    shared_data: Callable[[str], Path],
) -> None:
    folder = shared_data("sample/small")
    data = read_folder(folder)
    assert data.system.server_data.servers[0].current_alloc.load.avg_in_tokens == 128
    assert read_file(folder / "system-data.json").system.model_data == data.system.model_data
    assert check_references(system_from_spec(data)) == ()
    text = (folder / "solution-data.json").read_text()
    solution = read_json(AllocationSolution, text, unknown=UnknownKeys.REJECT)
    assert solution.document() == json.loads(text)


def test_our_sample_is_good_and_its_data_are_the_defaults(root: Path) -> None:
    sample = read_folder(root / "config" / "sample", optional=())
    data = read_folder(root / "config" / "data", optional=(SERVER_FILE,))
    servers = {"server_data": data.system.server_data}
    assert SystemData(system=sample.system.model_copy(update=servers)) == data
    assert check_references(system_from_spec(sample)) == ()
    assert len({each.type for each in sample.system.accelerator_data.accelerators}) >= 4
    assert len(sample.system.service_class_data.service_classes) == 3
    assert len(sample.system.server_data.servers) >= 6
