"""The testbed as fixtures: one control plane a session, the rest anew for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from testbed.build import MissingProgramsError, find_programs
from testbed.control_plane import ADMIN, ControlPlane
from testbed.daemon import Daemon
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.pods import PodFollower
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy
from testbed.stand import Stand

from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import Connection, ConnectionOptions, connect

HERE = Path(__file__).resolve().parent
Connect = Callable[..., Connection]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All that stands in this folder needs the cluster; under xdist one worker has it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            if config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """Path of each program of the testbed."""
    try:
        return find_programs()
    except MissingProgramsError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def session_control_plane(
    programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """Started once; tests take `control_plane`, which mends what the last test broke."""
    control_plane = ControlPlane(programs, tmp_path_factory.mktemp("control-plane"))
    try:
        control_plane.start()
        yield control_plane
    finally:
        control_plane.close()


@pytest.fixture
def control_plane(session_control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane, all of its programs running."""
    session_control_plane.start()
    yield session_control_plane
    session_control_plane.start()


@pytest.fixture(scope="module")
def stand(
    session_control_plane: ControlPlane,
    programs: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Stand]:
    """A loop for one file of tests; what is in it is the file's own."""
    session_control_plane.start()
    name = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    folder = tmp_path_factory.mktemp(name)
    stand = Stand(session_control_plane, programs, folder, f"{name}-{os.urandom(3).hex()}")
    try:
        yield stand
    finally:
        stand.close()


@pytest.fixture
def fleet(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A namespace of this test's own."""
    name = request.node.name.partition("[")[0].removeprefix("test_").replace("_", "-")
    fleet = Fleet(control_plane, f"{name[:40].strip('-')}-{os.urandom(3).hex()}")
    try:
        yield fleet
    finally:
        control_plane.start()
        fleet.close()


@pytest.fixture
def follower(fleet: Fleet) -> Iterator[PodFollower]:
    """Knows the ready pods of the fleet."""
    follower = PodFollower(fleet.control_plane, fleet.namespace)
    with closing(follower):
        follower.start()
        yield follower


@pytest.fixture
def emulator(fleet: Fleet, follower: PodFollower) -> Iterator[Emulator]:
    """Plays the ready pods of the fleet."""
    emulator = Emulator(fleet.namespace)
    with closing(emulator):
        emulator.start()
        follower.tell(emulator.set_pods)
        yield emulator


@pytest.fixture
def new_prometheus(
    programs: dict[str, Path], tmp_path: Path
) -> Iterator[Callable[..., Prometheus]]:
    """Makes a Prometheus that is not started and has no data."""
    with ExitStack() as open_ones:

        def make(scrape_interval_s: float = 1.0) -> Prometheus:
            folder = tmp_path / f"prometheus-{os.urandom(3).hex()}"
            folder.mkdir()
            prometheus = Prometheus(programs, folder, scrape_interval_s)
            return open_ones.enter_context(closing(prometheus))

        yield make


@pytest.fixture
def prometheus(
    new_prometheus: Callable[..., Prometheus], follower: PodFollower, emulator: Emulator
) -> Prometheus:
    """Scrapes the emulated pods of the fleet every second."""
    prometheus = new_prometheus()
    follower.tell(partial(prometheus.follow, emulator.namespace, emulator.address))
    prometheus.start()
    return prometheus


@pytest.fixture
def new_proxy() -> Iterator[Callable[..., Proxy]]:
    """Makes a running proxy; takes the arguments of `Proxy`."""
    with ExitStack() as open_ones:

        def make(upstream: str, ca_file: Path | None = None) -> Proxy:
            proxy = open_ones.enter_context(closing(Proxy(upstream, ca_file)))
            proxy.start()
            return proxy

        yield make


@pytest.fixture
def api_proxy(control_plane: ControlPlane, new_proxy: Callable[..., Proxy]) -> Proxy:
    """Stands before the API server; `control_plane.kubeconfig(user, api_proxy.url)` uses it."""
    return new_proxy(control_plane.url, control_plane.ca_file)


@pytest.fixture
def prometheus_proxy(prometheus: Prometheus, new_proxy: Callable[..., Proxy]) -> Proxy:
    """Stands before Prometheus."""
    return new_proxy(prometheus.url)


@pytest.fixture
def new_daemon(
    fleet: Fleet, prometheus: Prometheus, tmp_path: Path
) -> Iterator[Callable[..., Daemon]]:
    """Makes a daemon over the fleet that is not started; takes more arguments of `Daemon`."""
    with ExitStack() as open_ones:

        def make(
            kubeconfig: Path | None = None, prometheus_url: str | None = None, **more: Any
        ) -> Daemon:
            folder = tmp_path / f"daemon-{os.urandom(3).hex()}"
            daemon = Daemon(
                folder,
                kubeconfig or fleet.control_plane.kubeconfig(ADMIN),
                fleet.namespace,
                prometheus.url if prometheus_url is None else prometheus_url,
                **more,
            )
            return open_ones.enter_context(closing(daemon))

        yield make


@pytest.fixture
def connected(fleet: Fleet) -> Iterator[Connect]:
    """Connects as a user; small pages, so that every list has several."""
    opened: list[Connection] = []

    def make(user: str = ADMIN, server: str | None = None) -> Connection:
        kubeconfig = fleet.control_plane.kubeconfig(user, server)
        opened.append(connect(ConnectionOptions(kubeconfig=str(kubeconfig), page_size=3)))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def cluster(fleet: Fleet, connected: Connect) -> KubeCluster:
    options = ClusterOptions(namespaces=(fleet.namespace,), instance="test")
    return KubeCluster(connected(), options)
