"""Custom resources at the real API server, and the controller that answers them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from testbed.control_plane import ADMIN, ControlPlane
from testbed.fleet import Fleet
from testbed.processes import Program
from testbed.proxy import Proxy
from testbed.rights import Right, Roles, used
from testbed.waiting import until

from controlloop.api.custom_kinds import API_VERSION, custom_kinds

COMMAND = [sys.executable, "-m", "controlloop"]
PERF = {
    "acc": "H100",
    "maxBatchSize": 64,
    "atTokens": 128,
    "decodeParms": {"alpha": 8.0, "beta": 0.2},
    "prefillParms": {"gamma": 5.0, "delta": 0.005},
}
LOAD = {"arrivalRate": 60, "avgInTokens": 128, "avgOutTokens": 128}
SPECS: Mapping[str, Mapping[str, Any]] = {
    "Accelerator": {"name": "H100", "type": "H100", "cost": 40},
    "Capacity": {"count": [{"type": "H100", "count": 16}]},
    "Model": {"name": "llama-8b", "accelerators": [PERF]},
    "ServiceClass": {
        "name": "Premium",
        "priority": 1,
        "modelTargets": [{"model": "llama-8b", "slo-itl": 12, "slo-ttft": 500}],
    },
    "Server": {"class": "Premium", "model": "llama-8b", "currentAlloc": {"load": LOAD}},
    "Optimizer": {},
}
Apply = Callable[..., subprocess.CompletedProcess[str]]


class Resources:
    """The custom resources of one namespace, by kubectl as a user has it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._base = [
            str(fleet.control_plane.kubectl),
            f"--kubeconfig={fleet.control_plane.kubeconfig(ADMIN)}",
            f"--namespace={fleet.namespace}",
        ]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._base, *arguments], input=stdin, capture_output=True, text=True, check=False
        )

    def apply(self, kind: str, spec: Mapping[str, Any], name: str = "one") -> None:
        answer = self.try_to_apply(kind, spec, name)
        assert answer.returncode == 0, answer.stderr

    def try_to_apply(
        self, kind: str, spec: Mapping[str, Any], name: str = "one"
    ) -> subprocess.CompletedProcess[str]:
        document = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return self.run("apply", "--validate=strict", "-f", "-", stdin=json.dumps(document))

    def get(self, kind: str, name: str = "one") -> Any:
        return json.loads(self.run("get", kind, name, "-o", "json").stdout)

    def ready(self, kind: str, name: str = "one") -> tuple[str, str]:
        """Status and reason of its Ready condition; empty before there is one."""
        conditions = self.get(kind, name).get("status", {}).get("conditions", ())
        found = [each for each in conditions if each["type"] == "Ready"]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")


@pytest.fixture(scope="module")
def definitions(session_control_plane: ControlPlane) -> None:
    """Our kinds, known to the API server, as a user installs them."""
    session_control_plane.start()
    printed = subprocess.run([*COMMAND, "crds"], capture_output=True, text=True, check=True)
    kubectl = [
        str(session_control_plane.kubectl),
        f"--kubeconfig={session_control_plane.kubeconfig(ADMIN)}",
    ]
    subprocess.run(
        [*kubectl, "apply", "--validate=strict", "-f", "-"],
        input=printed.stdout,
        text=True,
        check=True,
        capture_output=True,
    )
    names = [f"crd/{each.plural}.inferno.platform.ai" for each in custom_kinds()]
    subprocess.run(
        [*kubectl, "wait", "--for=condition=Established", "--timeout=30s", *names],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def resources(definitions: None, fleet: Fleet) -> Iterator[Resources]:
    resources = Resources(fleet)
    yield resources
    resources.run("delete", "inferno", "--all", "--wait=false")


@pytest.fixture
def controller(fleet: Fleet, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts a controller of the fleet's namespace; its Lease is there too."""
    started: list[Program] = []

    def start(*more: str) -> Program:
        program = Program(
            [
                *COMMAND,
                "controller",
                f"--kubeconfig={fleet.control_plane.kubeconfig(ADMIN)}",
                f"--namespace={fleet.namespace}",
                f"--lease-namespace={fleet.namespace}",
                "--debounce=0.1",
                "--liveness-port=0",
                *more,
            ],
            tmp_path / f"controller-{os.urandom(3).hex()}.log",
        )
        started.append(program)
        program.start()
        return program

    yield start
    for program in started:
        program.close()


def apply_all(resources: Resources) -> None:
    for kind, spec in SPECS.items():
        resources.apply(kind, spec)


def test_the_api_server_takes_the_schemas_as_structural(
    definitions: None, control_plane: ControlPlane
) -> None:
    found = control_plane.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    ours = [each for each in found["items"] if each["spec"]["group"] == "inferno.platform.ai"]
    assert len(ours) == len(custom_kinds())
    for each in ours:
        conditions = {one["type"]: one["status"] for one in each["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert "NonStructuralSchema" not in conditions


BAD: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("Accelerator", {"type": "H100", "cost": -1}, "spec.cost"),
    ("Accelerator", {"type": "H100", "cost": 1, "multiplicity": 0}, "spec.multiplicity"),
    ("Accelerator", {"cost": 1}, "spec.type: Required value"),
    ("Accelerator", {"type": "H100", "cost": 1, "price": 2}, "unknown field"),
    ("Capacity", {"count": [{"type": "A", "count": -1}]}, "spec.count[0].count"),
    (
        "Capacity",
        {"count": [{"type": "A", "count": 1}, {"type": "A", "count": 2}]},
        "Duplicate value",
    ),
    (
        "Model",
        {"accelerators": [{**PERF, "decodeParms": {"alpha": 0, "beta": 0}}]},
        "alpha",
    ),
    ("Model", {"accelerators": [{**PERF, "maxBatchSize": 0}]}, "maxBatchSize"),
    (
        "Model",
        {"accelerators": [{"acc": "H100", "maxBatchSize": 8, "atTokens": 64}]},
        "give both decodeParms and prefillParms",
    ),
    (
        "Model",
        {"accelerators": [{**PERF, "decodeParms": {"alpha": 0.0, "beta": 0.0}}]},
        "spec.accelerators[0].decodeParms: Invalid value",
    ),
    (
        "Model",
        {"accelerators": [{**PERF, "parameters": {"a": 1.0}}]},
        "give both decodeParms and prefillParms, or parameters and none of them",
    ),
    ("Model", {"accelerators": [PERF, PERF]}, "Duplicate value"),
    ("ServiceClass", {"priority": "high"}, "spec.priority"),
    ("Server", {"model": ""}, "spec.model"),
    ("Server", {"model": "m", "minNumReplicas": -1}, "spec.minNumReplicas"),
    ("Server", {"model": "m", "keepAccelerator": "yes"}, "spec.keepAccelerator"),
    ("Optimizer", {"objective": "weighted"}, "energyPrice is required"),
    ("Optimizer", {"saturationPolicy": "Some"}, "Unsupported value"),
)


SHOWN = {
    "acc": ("TYPE CARDS CENTS/H", "H100"),
    "cap": ("TYPES CARDS", "H100 16"),
    "mdl": ("ACCELERATORS", "H100"),
    "svcclass": ("PRIORITY", "1"),
    "isrv": ("MODEL CLASS ACCELERATOR REPLICAS CENTS/H", "llama-8b Premium H100"),
    "iopt": ("SERVERS UNSERVED CENTS/H SOLVER", "1 0"),
}
"""What `kubectl get` shows of each kind: its columns, and the values of the first of them."""


def test_the_schema_rejects_bad_values_by_name(resources: Resources) -> None:
    for kind, spec, told in BAD:
        answer = resources.try_to_apply(kind, spec)
        assert answer.returncode != 0, (kind, spec)
        assert told in answer.stderr, (kind, spec, answer.stderr)


def test_one_reconciliation_answers_in_statuses_and_touches_no_spec(resources: Resources) -> None:
    apply_all(resources)
    before = {kind: resources.get(kind) for kind in SPECS}
    once = [*COMMAND, "controller", "--once", "--no-lease"]
    cluster = resources._fleet
    done = subprocess.run(
        [
            *once,
            f"--namespace={cluster.namespace}",
            f"--kubeconfig={cluster.control_plane.kubeconfig(ADMIN)}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 optimizers, 6 statuses written\n"
    server = resources.get("Server")
    assert server["status"]["allocation"]["accelerator"] == "H100"
    assert server["status"]["allocation"]["numReplicas"] >= 1
    assert server["status"]["observedGeneration"] == server["metadata"]["generation"]
    assert resources.ready("Server") == ("True", "Allocated")
    assert resources.ready("Optimizer") == ("True", "Optimized")
    for kind, old in before.items():
        new = resources.get(kind)
        assert new["spec"] == old["spec"]
        assert new["metadata"].get("annotations") == old["metadata"].get("annotations")
        assert "finalizers" not in new["metadata"]
    for short, (columns, values) in SHOWN.items():
        header, line = resources.run("get", short).stdout.splitlines()
        assert header.split() == ["NAME", *columns.split(), "READY", "AGE"]
        assert line.split()[: 1 + len(values.split())] == ["one", *values.split()]
        assert line.split()[-2] == "True"
    wide = resources.run("get", "iopt", "--output=wide").stdout
    assert {"SOLVED", "REASON"} <= set(wide.split())


def test_the_controller_follows_changes_and_says_what_is_wrong(
    resources: Resources, controller: Callable[..., Program], fleet: Fleet
) -> None:
    apply_all(resources)
    program = controller()
    until(lambda: resources.ready("Server") == ("True", "Allocated"), "the first allocation")
    few = resources.get("Server")["status"]["allocation"]["numReplicas"]

    more = {**SPECS["Server"], "currentAlloc": {"load": {**LOAD, "arrivalRate": 6000}}}
    resources.apply("Server", more)
    until(
        lambda: resources.get("Server")["status"]["allocation"]["numReplicas"] > few,
        "more replicas for more load",
    )
    kept = resources.get("Server")["status"]["allocation"]

    # The same name twice: nothing is decided on contradictory data, and what was stays.
    resources.apply("Accelerator", SPECS["Accelerator"], name="two")
    until(lambda: resources.ready("Accelerator", "two") == ("False", "Invalid"), "the culprit")
    assert resources.ready("Optimizer") == ("False", "InvalidObjects")
    assert resources.get("Server")["status"]["allocation"] == kept
    resources.run("delete", "acc", "two")
    until(lambda: resources.ready("Optimizer") == ("True", "Optimized"), "mended")

    events = fleet.get(f"/apis/events.k8s.io/v1/namespaces/{fleet.namespace}/events")
    regarding = {(one["regarding"]["kind"], one["reason"]) for one in events["items"]}
    assert {("Server", "Allocated"), ("Optimizer", "InvalidObjects")} <= regarding

    # Deleting and making it again leaves nothing of the former one.
    assert resources.run("delete", "isrv", "one", "--timeout=10s").returncode == 0
    resources.apply("Server", SPECS["Server"])
    until(lambda: resources.ready("Server") == ("True", "Allocated"), "the new one")
    assert resources.get("Server")["status"]["allocation"]["numReplicas"] == few
    assert program.terminate() == 0


def test_of_two_controllers_one_writes_and_the_other_takes_over(
    resources: Resources, controller: Callable[..., Program]
) -> None:
    first, second = controller(), controller()
    with closing(first):
        apply_all(resources)
        until(lambda: resources.ready("Server") == ("True", "Allocated"), "the first allocation")
        wrote = [one for one in (first, second) if "status-written" in one.log.read_text()]
        assert len(wrote) == 1
        other = second if wrote[0] is first else first
        wrote[0].terminate()
        resources.apply("Server", {**SPECS["Server"], "minNumReplicas": 7})
        until(
            lambda: resources.get("Server")["status"]["allocation"]["numReplicas"] == 7,
            "the standby's answer",
            60,
        )
        assert "status-written" in other.log.read_text()


def reconciled(program: Program) -> int:
    return program.log.read_text().count("reconciled")


def test_a_burst_of_changes_is_one_reconciliation_and_each_server_says_what_it_lacks(
    resources: Resources, controller: Callable[..., Program]
) -> None:
    apply_all(resources)
    program = controller("--debounce=1")
    until(lambda: resources.ready("Server") == ("True", "Allocated"), "the first allocation")
    before = reconciled(program)
    hasty = {**SPECS["ServiceClass"], "name": "Hasty", "priority": 2}
    hasty["modelTargets"] = [{"model": "llama-8b", "slo-itl": 1, "slo-ttft": 1}]
    resources.apply("ServiceClass", hasty, name="hasty")
    for number in range(4):
        resources.apply("Server", SPECS["Server"], name=f"more-{number}")
    resources.apply("Server", {**SPECS["Server"], "class": "Hasty"}, name="hasty")
    many = {**SPECS["Server"], "currentAlloc": {"load": {**LOAD, "arrivalRate": 600000}}}
    resources.apply("Server", many)

    def all_observed() -> bool:
        found = json.loads(resources.run("get", "isrv", "-o", "json").stdout)["items"]
        return all(
            one.get("status", {}).get("observedGeneration") == one["metadata"]["generation"]
            for one in found
        )

    until(all_observed, "an answer to every generation")
    # kubectl takes its time for each: with a second of quiet they come to two or three.
    assert 1 <= reconciled(program) - before <= 3
    assert resources.ready("Server", "hasty") == ("False", "TargetUnreachable")
    conditions = {one["type"]: one for one in resources.get("Server")["status"]["conditions"]}
    assert (conditions["Degraded"]["status"], conditions["Degraded"]["reason"]) == (
        "True",
        "NoCapacity",
    )
    assert "H100" in conditions["Degraded"]["message"]
    optimizer = resources.get("Optimizer")
    assert resources.ready("Optimizer") == ("True", "Unserved")
    assert optimizer["status"]["unserved"] == 2
    assert "finalizers" not in optimizer["metadata"]


def test_the_shipped_roles_of_the_controller_are_used_to_the_last_and_are_enough(
    resources: Resources,
    controller: Callable[..., Program],
    fleet: Fleet,
    api_proxy: Proxy,
    root: Path,
) -> None:
    folder = str(root / "deploy" / "overlays" / "controller")
    roles = Roles(fleet, folder, {"inferno": fleet.namespace}, "plain")
    roles.apply()
    try:
        kubeconfig = fleet.control_plane.kubeconfig("plain", api_proxy.url)
        program = controller(f"--kubeconfig={kubeconfig}")
        apply_all(resources)
        until(lambda: resources.ready("Server") == ("True", "Allocated"), "an allocation")
        until(lambda: resources.ready("Accelerator") == ("True", "Valid"), "every status")

        def superfluous() -> list[Right]:
            done = used(api_proxy.requests())
            return [each for each in roles.rights if not any(each.covers(one) for one in done)]

        until(lambda: superfluous() == [], f"each right used; before: {superfluous()}")
        done = used(api_proxy.requests())
        assert [one for one in done if not any(each.covers(one) for each in roles.rights)] == []
        assert "forbidden" not in program.log.read_text().lower()
        assert program.terminate() == 0
    finally:
        roles.remove()
