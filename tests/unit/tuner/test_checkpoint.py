from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.errors import InputError, StateStoreError
from controlloop.tuner.belief import Belief
from controlloop.tuner.checkpoint import PairKey, decode, encode
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.state_file import FileStateStore

KEY: PairKey = ("m", "a", "state-dependent", (12.0, 0.3, 25.0, 0.002))
RECENT = Measurement(60.0, 1.5, 500.0, 200.0, 64, 20.0, None, 30.0, 1.5, 12.5, queue_seen=True)
BELIEF = Belief(
    mean=np.array([2.5, -1.2, 3.2, -6.2]),
    covariance=0.01 * np.eye(4) + 0.001,
    reference=np.array([2.4, -1.1, 3.1, -6.0]),
    fitted=True,
    since_fit=17,
    noise=np.array([1.5, 2.5, 1.0]),
    seen=np.array([17.0, 17.0, 0.0]),
    bias=np.array([0.1, -0.2, 0.0]),
    drift=1e-3,
    heard_at=60.0,
    recent=(RECENT,),
    judged=(True, False, True),
    accepted=40,
    rejected={"outlier": 3, "stale": 1},
    refits=1,
    trusted=np.array([2.5, -1.2, 3.2, -6.2]),
    proven=(np.array([2.4, -1.2, 3.2, -6.2]), 0.02 * np.eye(4)),
)


def test_what_is_kept_is_what_was_known() -> None:
    (key,), (found,) = zip(*decode(encode({KEY: BELIEF})).items(), strict=True)
    assert key == KEY
    for name in ("mean", "covariance", "reference", "noise", "seen", "bias", "trusted"):
        np.testing.assert_array_equal(getattr(found, name), getattr(BELIEF, name))
    for name in ("fitted", "since_fit", "drift", "recent", "judged", "accepted", "rejected"):
        assert getattr(found, name) == getattr(BELIEF, name)
    assert found.proven is not None
    assert BELIEF.proven is not None
    np.testing.assert_array_equal(found.proven[0], BELIEF.proven[0])
    np.testing.assert_array_equal(found.proven[1], BELIEF.proven[1])


def test_a_clock_that_was_ahead_before_the_restart_makes_nothing_old() -> None:
    (found,) = decode(encode({KEY: BELIEF})).values()
    assert found.heard_at == float("-inf")


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(encode({KEY: BELIEF}))
    change(document)
    return json.dumps(document).encode()


def sealed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A change of the pair by one who also knows how to make the digest."""
    from controlloop.tuner.checkpoint import _digest

    document = json.loads(encode({KEY: BELIEF}))
    change(document["pairs"][0])
    document["digest"] = _digest(document["pairs"])
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"null",
        b"[]",
        b"\x00\xff",
        b'{"kind": "controlloop optimizer state", "version": 1}',
        changed(lambda document: document.update(version=2)),
        changed(lambda document: document.update(version=0)),
        changed(lambda document: document.pop("digest")),
        changed(lambda document: document.pop("pairs")),
        changed(lambda document: document["pairs"][0].update(accepted=41)),
        sealed(lambda pair: pair.update(mean=[1.0])),
        sealed(lambda pair: pair.update(mean=[1.0, 2.0, 3.0, "4"])),
        sealed(lambda pair: pair.update(covariance=[[1.0]])),
        sealed(lambda pair: pair["covariance"][0].__setitem__(0, -1.0)),
        sealed(lambda pair: pair["recent"][0].pop()),
        sealed(lambda pair: pair["rejected"].update(whim=1)),
        sealed(lambda pair: pair.update(more=1)),
    ],
)
def test_what_is_torn_older_or_alien_is_refused_with_a_reason(state: bytes) -> None:
    with pytest.raises(InputError) as refused:
        decode(state)
    assert str(refused.value)


@given(st.integers(0, 10_000))
def test_no_part_of_a_state_is_taken_for_the_whole(cut: int) -> None:
    whole = encode({KEY: BELIEF})
    part = whole[: cut % len(whole)]
    with pytest.raises(InputError):
        decode(part)


def test_a_file_holds_what_was_saved_last(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path / "made" / "state.json")
    assert store.load() is None
    store.save(b"one")
    store.save(b"two")
    assert FileStateStore(tmp_path / "made" / "state.json").load() == b"two"
    assert [each.name for each in (tmp_path / "made").iterdir()] == ["state.json"]


def test_a_save_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStateStore(tmp_path / "state.json")
    store.save(b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateStoreError, match="No space left"):
        store.save(b"after")
    assert store.load() == b"before"


def test_what_is_set_aside_is_not_lost(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path / "state.json")
    for number, state in enumerate((b"bad", b"worse"), start=1):
        store.save(state)
        aside = store.set_aside()
        assert aside.endswith(f"state.json.bad-{number}")
        assert Path(aside).read_bytes() == state
        assert store.load() is None


def test_a_folder_in_the_place_of_the_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    with pytest.raises(StateStoreError, match="cannot be read"):
        store.load()
    with pytest.raises(StateStoreError, match="cannot be written"):
        store.save(b"")
