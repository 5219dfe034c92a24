from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controlloop.api.files import PARTS
from controlloop.errors import InputError
from controlloop.optimizer.planner import Planner
from controlloop.simulator.fleet import (
    DATA,
    TRAFFIC_FILE,
    Fleet,
    FleetError,
    fleet_at,
    read_fleet,
)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return read_fleet()


def test_the_shipped_fleet_is_the_sample_system(root: Path) -> None:
    for name in PARTS:
        assert (DATA / name).read_bytes() == (root / "config" / "sample" / name).read_bytes(), name


def test_the_fleet_is_mixed_and_its_cards_are_finite(fleet: Fleet) -> None:
    assert len(fleet.servers) >= 6
    assert len({server.service_class for server in fleet.servers}) == 3
    assert len(fleet.catalog.capacity) >= 4
    assert all(count > 0 for count in fleet.catalog.capacity.values())
    assert len({curve.peak_hour for curve in fleet.curves}) == len(fleet.servers)


def test_curves_are_multiples_of_each_servers_load(fleet: Fleet) -> None:
    for server, entry, curve in zip(fleet.servers, fleet.traffic, fleet.curves, strict=True):
        assert entry.name == server.name
        assert curve.peak_rps == pytest.approx(entry.peak * server.current.load.rate_rps)
        assert 0 < curve.trough_rps < curve.peak_rps


def test_engines_are_truly_as_fast_as_the_traffic_data_says(fleet: Fleet) -> None:
    truth = replace(fleet, true_times=0.5).truth

    said, true = fleet.catalog.perf[0], truth.perf[0]
    assert true.parameters == tuple(0.5 * time for time in said.parameters)
    assert replace(true, parameters=said.parameters) == said


def test_more_load_takes_more_replicas(fleet: Fleet) -> None:
    rates = np.array([server.current.load.rate_rps for server in fleet.servers])

    few, many = (fleet_at(fleet, factor * rates, Planner()) for factor in (0.5, 1.5))

    assert sum(one.replicas for one in few) < sum(one.replicas for one in many)
    assert all(one.replicas >= 1 for one in few)
    assert [one.name for one in few] == [server.name for server in fleet.servers]


def test_without_load_one_replica_stays_since_nothing_would_show_demand(fleet: Fleet) -> None:
    idle = fleet_at(fleet, np.zeros(len(fleet.servers)), Planner())

    assert [one.replicas for one in idle] == [1] * len(fleet.servers)


def test_a_load_that_does_not_fit_on_the_cards_is_refused(fleet: Fleet) -> None:
    rates = np.array([100 * server.current.load.rate_rps for server in fleet.servers])

    with pytest.raises(FleetError, match="cannot serve this load"):
        fleet_at(fleet, rates, Planner())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA, tmp_path / "fleet"))


def test_a_server_without_traffic_is_named(folder: Path) -> None:
    path = folder / TRAFFIC_FILE
    document = json.loads(path.read_text())
    left_out = document["servers"].pop()["name"]
    path.write_text(json.dumps(document))

    with pytest.raises(FleetError, match=left_out):
        read_fleet(folder)


def test_every_bad_value_of_the_traffic_is_named(folder: Path) -> None:
    path = folder / TRAFFIC_FILE
    document = json.loads(path.read_text())
    document["servers"][0]["peakHour"] = 25
    document["servers"][1]["trough"] = -1
    document["trueTimes"] = 0
    path.write_text(json.dumps(document))

    with pytest.raises(InputError) as caught:
        read_fleet(folder)

    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"servers[0].peakHour", "servers[1].trough", "trueTimes"}
