"""What was learned, kept in a ConfigMap of a real API server."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from testbed.control_plane import ADMIN
from testbed.daemon import Daemon
from testbed.fleet import Fleet

from controlloop.errors import StateStoreError
from controlloop.kube.connection import Connection, ConnectionOptions, connect
from controlloop.kube.resources import CONFIG_MAPS
from controlloop.kube.state_config_map import ASIDE, KEY, ConfigMapName, ConfigMapStateStore
from controlloop.tuner.checkpoint import encode

TIMEOUT_S = 10.0


@pytest.fixture
def connection(fleet: Fleet) -> Iterator[Connection]:
    kubeconfig = fleet.control_plane.kubeconfig(ADMIN)
    with closing(connect(ConnectionOptions(kubeconfig=str(kubeconfig)))) as connection:
        yield connection


def test_it_is_made_replaced_kept_from_others_and_set_aside(
    fleet: Fleet, connection: Connection
) -> None:
    where = ConfigMapName(fleet.namespace, "learned")

    def store() -> ConfigMapStateStore:
        return ConfigMapStateStore(connection, where, TIMEOUT_S, writes=True)

    ours = store()
    assert ours.load() is None
    for state in (b"one", b"two"):
        ours.save(state)
        assert store().load() == state
    other = store()
    other.save(b"theirs")
    with pytest.raises(StateStoreError, match="another process"):
        ours.save(b"ours")
    assert store().load() == b"theirs"
    large = random.Random(0).randbytes(990_000)
    ours.save(large)
    assert store().load() == large
    with pytest.raises(StateStoreError, match="fit"):
        ours.save(random.Random(0).randbytes(1_000_001))
    assert ASIDE in ours.set_aside()
    assert store().load() is None
    fleet.kubectl("delete", "configmap", "learned")
    with pytest.raises(StateStoreError):
        ours.save(b"after it was deleted")
    ours.save(b"again")
    assert store().load() == b"again"


def test_a_daemon_keeps_its_state_there_and_sets_aside_what_is_none(
    fleet: Fleet, connection: Connection, new_daemon: Callable[..., Daemon]
) -> None:
    path = CONFIG_MAPS.path(fleet.namespace)
    torn = base64.b64encode(b"torn").decode()
    body = {"metadata": {"name": "learned"}, "binaryData": {KEY: torn}}
    connection.send("POST", path, "make a bad state", TIMEOUT_S, body)
    kept = {"name": "ekf", "state_config_map": f"{fleet.namespace}/learned"}
    daemon = new_daemon(settings={"estimator": kept})
    done = daemon.once()
    assert done.returncode == 0, done.stderr
    values = connection.get(f"{path}/learned", "read it", TIMEOUT_S)["binaryData"]
    assert values[ASIDE] == torn
    where = ConfigMapName(fleet.namespace, "learned")
    found = ConfigMapStateStore(connection, where, TIMEOUT_S, writes=False).load()
    assert found is not None
    assert found.startswith(encode({})[:40])
