from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from controlloop.errors import InputError
from controlloop.source import FolderSource


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "config" / "data", tmp_path / "data"))


def spoil(folder: Path) -> None:
    document = json.loads((folder / "capacity-data.json").read_text())
    document["count"][0]["count"] = -4
    (folder / "capacity-data.json").write_text(json.dumps(document))
    (folder / "model-data.json").write_text("{")


def test_bad_data_at_start_is_an_error_with_all_problems_of_all_files(folder: Path) -> None:
    spoil(folder)
    with pytest.raises(InputError) as caught:
        FolderSource(folder, dynamic=True).load()
    assert len(caught.value.problems) == 2


def test_dynamic_data_is_read_again_and_the_last_good_stays_in_force(folder: Path) -> None:
    source = FolderSource(folder, dynamic=True)
    good = source.load()
    before = (folder / "capacity-data.json").read_text(), (folder / "model-data.json").read_text()
    spoil(folder)
    assert source.load() == good
    assert source.problem is not None
    assert "must be >= 0, got -4" in source.problem
    (folder / "capacity-data.json").write_text(before[0])
    (folder / "model-data.json").write_text(before[1])
    assert source.load() == good
    assert source.problem is None


def test_dynamic_data_that_changes_is_taken_over(folder: Path) -> None:
    source = FolderSource(folder, dynamic=True)
    first = source.load()
    document = json.loads((folder / "capacity-data.json").read_text())
    document["count"][0]["count"] += 3
    (folder / "capacity-data.json").write_text(json.dumps(document))
    kind = document["count"][0]["type"]
    assert source.load().capacity[kind] == first.capacity[kind] + 3


def test_a_mounted_config_map_is_read_at_one_version(folder: Path, tmp_path: Path) -> None:
    # The kubelet links each file into a folder of one version, and swaps the link to that folder.
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(folder)
    for file in folder.iterdir():
        (mount / file.name).symlink_to(Path("..data") / file.name)
    source = FolderSource(mount, dynamic=True)
    good = source.load()
    newer = Path(shutil.copytree(folder, tmp_path / "newer"))
    spoil(newer)
    # A file of another version beside the link is none of it.
    (mount / "capacity-data.json").unlink()
    (mount / "capacity-data.json").symlink_to(newer / "capacity-data.json")
    assert source.load() == good
    assert source.problem is None
    (mount / "..data").unlink()
    (mount / "..data").symlink_to(newer)
    assert source.load() == good
    assert source.problem is not None


def test_static_data_is_read_once(folder: Path) -> None:
    source = FolderSource(folder, dynamic=False)
    first = source.load()
    spoil(folder)
    assert source.load() is first
    assert source.problem is None


def test_servers_of_the_files_are_not_the_fleet(root: Path) -> None:
    assert FolderSource(root / "config" / "sample", dynamic=True).load().servers == ()


def test_performance_data_that_names_no_queue_model_takes_the_given_one(folder: Path) -> None:
    document = json.loads((folder / "model-data.json").read_text())
    document["models"][0]["queueModel"] = "state-dependent"
    (folder / "model-data.json").write_text(json.dumps(document))
    system = FolderSource(folder, dynamic=False, queue_model="mm1k").load()
    assert system.perf[0].queue_model == "state-dependent"
    assert {each.queue_model for each in system.perf[1:]} == {"mm1k"}
