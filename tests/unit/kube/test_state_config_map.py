from __future__ import annotations

import base64
import random
import zlib
from typing import Any

import pytest
from kubernetes.client import ApiClient

from controlloop.errors import ConflictError, NotFoundError, StateStoreError, UnavailableError
from controlloop.kube.connection import JSON, Connection, Object, Query
from controlloop.kube.state_config_map import ASIDE, KEY, ConfigMapName, ConfigMapStateStore

WHERE = ConfigMapName("ns", "learned")


class Kept(Connection):
    """An API server that holds one ConfigMap and checks the version of a patch."""

    def __init__(self) -> None:
        super().__init__(ApiClient())
        self.values: dict[str, str] | None = None
        self.version = 0
        self.down = False

    def get(self, path: str, what: str, timeout_s: float) -> Object:
        if self.down:
            raise UnavailableError(f"cannot {what}: down")
        if self.values is None:
            raise NotFoundError(f"cannot {what}: no such ConfigMap")
        return self._object()

    def send(
        self,
        method: str,
        path: str,
        what: str,
        timeout_s: float,
        body: Object,
        query: Query = (),
        content_type: str = JSON,
    ) -> Object:
        if self.down:
            raise UnavailableError(f"cannot {what}: down")
        if method == "POST":
            if self.values is not None:
                raise ConflictError(f"cannot {what}: it exists")
            self.values = {}
        elif body["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError(f"cannot {what}: it changed")
        assert self.values is not None
        for key, value in body["binaryData"].items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        self.version += 1
        return self._object()

    def _object(self) -> dict[str, Any]:
        return {
            "metadata": {"resourceVersion": str(self.version)},
            "binaryData": dict(self.values or {}),
        }


def store(connection: Connection, *, writes: bool = True) -> ConfigMapStateStore:
    return ConfigMapStateStore(connection, WHERE, 5.0, writes=writes)


def test_what_was_saved_last_is_loaded_by_the_next_process() -> None:
    kept = Kept()
    first = store(kept)
    assert first.load() is None
    for state in (b"one", b"two"):
        first.save(state)
    assert store(kept).load() == b"two"


def test_a_save_without_a_load_before_it_rests_on_what_is_there() -> None:
    kept = Kept()
    store(kept).save(b"one")
    store(kept).save(b"two")
    assert store(kept).load() == b"two"


def test_what_another_process_wrote_is_not_overwritten_by_that_write() -> None:
    kept = Kept()
    ours, other = store(kept), store(kept)
    ours.save(b"ours")
    other.save(b"theirs")
    with pytest.raises(StateStoreError, match="another process"):
        ours.save(b"ours again")
    assert store(kept).load() == b"theirs"
    ours.save(b"later")
    assert store(kept).load() == b"later"


def test_two_that_make_it_at_once_do_not_overwrite_each_other() -> None:
    kept = Kept()
    ours, other = store(kept), store(kept)
    assert ours.load() is other.load() is None
    other.save(b"theirs")
    with pytest.raises(StateStoreError):
        ours.save(b"ours")
    assert store(kept).load() == b"theirs"


def test_a_server_that_is_down_costs_an_error_of_the_store_and_no_more() -> None:
    kept = Kept()
    ours = store(kept)
    kept.down = True
    with pytest.raises(StateStoreError, match="down"):
        ours.load()
    with pytest.raises(StateStoreError, match="down"):
        ours.save(b"x")
    kept.down = False
    ours.save(b"y")
    assert store(kept).load() == b"y"


def test_it_is_compressed_and_refused_where_it_is_too_large_all_the_same() -> None:
    kept = Kept()
    ours = store(kept)
    ours.save(b"a" * 3_000_000)
    assert store(kept).load() == b"a" * 3_000_000
    with pytest.raises(StateStoreError, match="at most 1000000 fit"):
        ours.save(random.Random(0).randbytes(1_000_001))
    assert store(kept).load() == b"a" * 3_000_000


@pytest.mark.parametrize(
    "value",
    [
        "not base64",
        base64.b64encode(b"not compressed").decode(),
        base64.b64encode(zlib.compress(b"torn" * 1000)[:-5]).decode(),
    ],
)
def test_what_is_torn_is_given_as_it_is_and_can_be_set_aside(value: str) -> None:
    kept = Kept()
    kept.values = {KEY: value, "theirs": "x"}
    ours = store(kept)
    assert ours.load() is not None
    assert ASIDE in ours.set_aside()
    assert kept.values == {ASIDE: value, "theirs": "x"}
    assert store(kept).load() is None
    ours.save(b"new")
    assert store(kept).load() == b"new"
    assert kept.values[ASIDE] == value


def test_in_a_dry_run_it_reads_and_writes_nothing() -> None:
    kept = Kept()
    store(kept).save(b"one")
    dry = store(kept, writes=False)
    assert dry.load() == b"one"
    dry.save(b"two")
    assert "stays" in dry.set_aside()
    assert store(kept).load() == b"one"
