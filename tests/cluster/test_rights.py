"""The shipped roles: they allow all that is done, and nothing that is not done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from testbed.daemon import Daemon
from testbed.objects import ManagedServer
from testbed.proxy import Fault, Proxy
from testbed.rights import Right, Roles, used
from testbed.stand import BUSY, Stand
from testbed.waiting import until

from controlloop.composition.cluster import ClusterChoice
from controlloop.composition.configuration import load_settings
from controlloop.composition.doctor import build_doctor
from controlloop.daemon.doctor import Level

LEARNED, SEEN, WINDOWS, OTHERS = (
    "controlloop-learned",
    "controlloop-forecast",
    "controlloop-stability",
    "controlloop-interventions",
)
KUSTOMIZATIONS = {
    "base": ("deploy", "controlloop"),
    "namespaced": ("deploy/overlays/namespaced", "plain"),
    "dry-run": ("deploy/overlays/dry-run", "controlloop-standby"),
    "siblings": ("deploy/overlays/siblings", "controlloop"),
}
# What uses those of the last one is in test_siblings.py.
USED_HERE = ("base", "namespaced", "dry-run")
SCALED_OBJECTS: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def home(stand: Stand) -> Iterator[str]:
    """The namespace that stands for the daemon's own; its servers are in the fleet's."""
    fleet, name = stand.fleet, f"home-{os.urandom(3).hex()}"
    fleet.core.create_namespace({"metadata": {"name": name}})
    fleet.apply(SCALED_OBJECTS)
    fleet.kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh")
    stand.start(*(ManagedServer(one) for one in KUSTOMIZATIONS))
    yield name
    fleet.kubectl("delete", "crd", "scaledobjects.keda.sh")
    fleet.core.delete_namespace(name)


@pytest.fixture
def api(stand: Stand) -> Iterator[Proxy]:
    with closing(Proxy(stand.control_plane.url, stand.control_plane.ca_file)) as proxy:
        proxy.start()
        yield proxy


@pytest.fixture
def bound(stand: Stand, home: str, root: Path) -> Iterator[Callable[[str], Roles]]:
    """Binds the roles of a kustomization to its user until the test ends."""
    made: list[Roles] = []
    namespaces = {"inferno": home, "inference": stand.fleet.namespace}

    def bind(name: str) -> Roles:
        folder, user = KUSTOMIZATIONS[name]
        roles = Roles(stand.fleet, str(root / folder), namespaces, user)
        roles.apply()
        made.append(roles)
        return roles

    yield bind
    for roles in made:
        roles.remove()
    for kind, name in (
        ("lease", "controlloop"),
        *(("configmap", one) for one in (LEARNED, SEEN, WINDOWS, OTHERS)),
    ):
        stand.fleet.kubectl("delete", f"--namespace={home}", "--ignore-not-found", kind, name)


def daemon_of(stand: Stand, home: str, name: str, api: Proxy) -> Daemon:
    """A daemon with the settings that the kustomization `name` comes to, as its user."""
    namespaced = name == "namespaced"
    capacity: dict[str, Any] = {"source": "file" if namespaced else "nodes"}
    if not namespaced:
        capacity["accelerator_types"] = {"A100": "A100"}
    settings: dict[str, dict[str, Any]] = {
        "capacity": capacity,
        "cluster": {"namespaces": [stand.fleet.namespace] if namespaced else []},
        "lease": {"namespace": home},
        "estimator": {"name": "ekf", "state_config_map": f"{home}/{LEARNED}"},
        "forecaster": {"state_config_map": f"{home}/{SEEN}"},
        "stability": {"state_config_map": f"{home}/{WINDOWS}"},
        "actuator": {"state_config_map": f"{home}/{OTHERS}"},
    }
    if name == "dry-run":
        settings["actuator"]["mode"] = "dry-run"
    if name == "siblings":
        settings["actuator"] |= {"siblings": True, "templates": {"A100": {}}}
    _, user = KUSTOMIZATIONS[name]
    kubeconfig = stand.control_plane.kubeconfig(user, api.url)
    return stand.daemon(settings, kubeconfig=kubeconfig)


def ended(daemon: Daemon, name: str) -> list[str]:
    """How the first patch of a server ended; empty before there is one."""
    patches = [one for report in daemon.reports() for one in report["patches"]]
    return [one["status"] for one in patches if one["server"] == name][:1]


@pytest.mark.parametrize("name", USED_HERE)
def test_each_right_that_is_granted_is_used_and_no_other_is_asked_for(
    stand: Stand, home: str, api: Proxy, bound: Callable[[str], Roles], name: str
) -> None:
    roles = bound(name)
    stand.emulator.set_load(name, BUSY)
    # What is seen is kept every ten minutes: where it was kept before, the first time patches it.
    stand.fleet.core.create_namespaced_config_map(home, {"metadata": {"name": SEEN}})
    # Someone touches it between look and write: it is read again.
    touch = {"metadata": {"annotations": {"note": "touched"}}}
    api.add_fault(
        Fault(
            lambda one: one.method == "PATCH" and one.path.endswith(f"/deployments/{name}"),
            times=1,
            before=lambda: stand.fleet.patch(name, touch),
        )
    )
    daemon = daemon_of(stand, home, name, api)
    daemon.start()
    if name == "dry-run":
        daemon.await_reports(2)
    else:
        stand.await_growth(name)
        assert until(lambda: ended(daemon, name), "the patch in a report") == ["applied"]

    def superfluous() -> list[Right]:
        done = used(api.requests())
        return [each for each in roles.rights if not any(each.covers(one) for one in done)]

    until(lambda: superfluous() == [], f"each right used; before: {superfluous()}")
    done = used(api.requests())
    lacking = [one for one in done if not any(each.covers(one) for each in roles.rights)]
    assert lacking == []
    assert "forbidden" not in daemon.log.read_text().lower()
    if name == "dry-run":
        assert api.requests(writes=True) == []
    daemon.program.terminate()


@pytest.mark.parametrize("name", ["base", "namespaced", "siblings"])
def test_the_doctor_is_content_and_names_any_single_right_that_is_taken_away(
    stand: Stand, home: str, bound: Callable[[str], Roles], name: str, api: Proxy
) -> None:
    roles = bound(name)
    daemon = daemon_of(stand, home, name, api)
    kubeconfig = stand.control_plane.kubeconfig(KUSTOMIZATIONS[name][1])
    settings = load_settings(daemon.folder, {})

    def lacking() -> list[str]:
        doctor = build_doctor(settings, daemon.folder, ClusterChoice(kubeconfig))
        found = [each for each in doctor.examine() if each.subject == "permissions"]
        return [each.found for each in found if each.level is not Level.OK]

    until(lambda: lacking() == [], "every right granted")
    for right in roles.rights:
        roles.apply(without=right)
        found = until(lacking, f"{right} missed")
        assert any(each.startswith(f"may not {right.verb} {right.resource}") for each in found)
        assert len(found) == 1, found
    roles.apply()
