from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controlloop.errors import InputError
from controlloop.rest.options import RestOptions
from controlloop.rest.state import State
from controlloop.rest.state_file import StateFile, StateFileError

GETS = ("/getAccelerators", "/getCapacities", "/getModels", "/getServiceClasses", "/getServers")


def kept(file: Path) -> RestOptions:
    return RestOptions(full=True, state_file=file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def release(file: Path) -> None:
    """What the end of a process does: its lock is gone."""
    file.with_name(f".{file.name}.lock").unlink()


def test_everything_survives_a_restart(start: Any, file: Path, system: Any) -> None:
    first = start(kept(file))
    first.post("/optimizeOne", system)
    first.get("/addModel/without/data")
    first.get("/removeServer/chat-8b")
    first.get("/applyAllocation")
    before = [first.get(path) for path in GETS]
    perf = first.get(f"/getModel/{before[2][0]}")
    first.server.stop()
    release(file)
    second = start(kept(file))
    assert [second.get(path) for path in GETS] == before
    assert second.get(f"/getModel/{before[2][0]}") == perf
    assert any(each.get("desiredAlloc") for each in before[4]["servers"])


def test_what_was_answered_is_on_the_disk(start: Any, file: Path) -> None:
    client = start(kept(file))
    client.post("/setCapacity", {"type": "A100", "count": 3})
    assert StateFile(file).load().capacities["A100"].count == 3
    client.get("/getModels")
    client.refused("POST", "/setCapacity", 400, {"type": "A100"})
    assert StateFile(file).load().capacities["A100"].count == 3


def test_at_every_byte_a_torn_file_is_refused_and_left_alone(file: Path) -> None:
    StateFile(file).save(State())
    whole = file.read_bytes()
    assert StateFile(file).load() == State()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match="move it away to start empty"):
            StateFile(file).load()
        assert file.read_bytes() == whole[:length]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "kind: must be"),
        ('{"servers": []}', "kind: must be"),
        ('{"kind": "controlloop optimizer state", "version": 2}', "version: must be 1, got 2"),
        ('{"kind": "controlloop optimizer state", "version": 1}', "system: is required"),
        ("\x00" * 100, "is not JSON"),
    ],
)
def test_an_alien_file_is_refused_with_words(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        StateFile(file).load()
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_with_a_bad_value_is_refused_whole(file: Path, start: Any, system: Any) -> None:
    client = start(kept(file))
    client.post("/optimizeOne", system)
    document = json.loads(file.read_text())
    document["system"]["capacityData"]["count"][0]["count"] = -1
    document["system"]["serverData"]["colour"] = "red"
    file.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        StateFile(file).load()
    assert "system.capacityData.count[0].count: must be >= 0, got -1" in str(caught.value)
    assert "system.serverData.colour: is not a known key" in str(caught.value)


def test_two_servers_do_not_share_a_file(start: Any, file: Path) -> None:
    start(kept(file))
    with pytest.raises(StateFileError, match="another server uses it"):
        start(kept(file))


def test_a_crash_while_writing_leaves_the_state_before(
    file: Path, monkeypatch: pytest.MonkeyPatch, start: Any
) -> None:
    client = start(kept(file))
    client.get("/addModel/kept")

    def crash(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    document = client.refused("GET", "/addModel/lost", 503)
    assert document["message"].endswith("No space left on device; nothing was changed")
    assert client.get("/getModels") == ["kept"]
    reasons = client.refused("GET", "/readyz", 503)["reasons"]
    assert "No space left" in reasons[0]
    assert client.get("/healthz")["ok"]
    assert tuple(StateFile(file).load().models) == ("kept",)
    monkeypatch.undo()
    client.get("/addModel/again")
    assert client.get("/readyz")["ok"]
    assert tuple(StateFile(file).load().models) == ("kept", "again")


def test_a_stateless_server_takes_no_state_file(start: Any, file: Path) -> None:
    with pytest.raises(InputError, match="--full"):
        start(RestOptions(state_file=file))
