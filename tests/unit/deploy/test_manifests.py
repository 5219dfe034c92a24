from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from controlloop import __version__
from controlloop.api.custom_definitions import custom_resource_definitions
from controlloop.cli.app import app
from controlloop.settings.file import read_settings
from controlloop.settings.tree import Settings

KEPT = [
    "controlloop-learned",
    "controlloop-forecast",
    "controlloop-stability",
    "controlloop-interventions",
]


@pytest.fixture
def shipped(root: Path) -> dict[str, Any]:
    """The shipped manifests by kind; of one kind there is one."""
    found: dict[str, Any] = {}
    for path in sorted((root / "deploy" / "base").glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            assert manifest["kind"] not in found
            found[manifest["kind"]] = manifest
    return found


@pytest.fixture
def settings(shipped: dict[str, Any]) -> Settings:
    return read_settings(
        shipped["ConfigMap"]["data"]["settings.yaml"], "deploy/base/settings.yaml", {}
    )


def test_the_shipped_settings_are_valid_and_find_the_images_data(
    settings: Settings, root: Path
) -> None:
    assert settings.data.directory == "/etc/controlloop/data"
    assert "COPY config /etc/controlloop" in (root / "Dockerfile").read_text()


def test_the_role_names_the_lease_that_the_settings_name(
    shipped: dict[str, Any], settings: Settings
) -> None:
    assert shipped["Role"]["metadata"]["namespace"] == settings.lease.namespace
    assert shipped["Namespace"]["metadata"]["name"] == settings.lease.namespace
    named = [rule["resourceNames"] for rule in shipped["Role"]["rules"] if "resourceNames" in rule]
    assert named == [[settings.lease.name], KEPT]


def test_the_deployment_fits_the_settings_and_the_release(
    shipped: dict[str, Any], settings: Settings
) -> None:
    pod = shipped["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [settings.http.port]
    assert pod["terminationGracePeriodSeconds"] > settings.cycle.deadline_s
    assert shipped["Kustomization"]["images"] == [{"name": "controlloop", "newTag": __version__}]
    assert container["image"] == "controlloop"
    assert pod["serviceAccountName"] == shipped["ServiceAccount"]["metadata"]["name"]


def test_no_service_of_the_namespace_can_look_like_a_setting(shipped: dict[str, Any]) -> None:
    assert shipped["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_definitions_and_the_dashboard_are_what_the_code_makes(root: Path) -> None:
    shipped = (root / "deploy" / "overlays" / "controller" / "crds.yaml").read_text()
    assert list(yaml.safe_load_all(shipped)) == list(custom_resource_definitions())
    script = [sys.executable, str(root / "scripts" / "make_dashboard.py"), "--check"]
    subprocess.run(script, check=True)


@pytest.mark.parametrize(
    ("overlay", "name"),
    [("controller", "controlloop-controller"), ("optimizer", "inferno-optimizer")],
)
def test_every_process_runs_without_rights_it_does_not_need(
    root: Path, overlay: str, name: str
) -> None:
    found: dict[str, Any] = {}
    for path in sorted((root / "deploy" / "overlays" / overlay).glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            found[manifest["kind"]] = manifest
    assert found["Deployment"]["metadata"]["name"] == name
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert found["Kustomization"]["images"] == [{"name": "controlloop", "newTag": __version__}]


def test_the_optimizer_is_where_its_users_look_for_it(root: Path) -> None:
    path = root / "deploy" / "overlays" / "optimizer" / "optimizer.yaml"
    kinds = {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}
    service, deployment = kinds["Service"], kinds["Deployment"]
    assert (service["metadata"]["namespace"], service["metadata"]["name"]) == (
        "inferno",
        "inferno-optimizer",
    )
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == {"app": "inferno-optimizer"}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["serve", "-F"]
    hosts = [each["value"] for each in container["env"] if each["name"] == "INFERNO_HOST"]
    assert hosts == ["0.0.0.0"]  # noqa: S104 - others reach it by its Service


def test_every_container_runs_a_command_line_that_there_is(root: Path) -> None:
    seen = []
    for path in sorted((root / "deploy").rglob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest["kind"] != "Deployment":
                continue
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            name, *arguments = container["args"]
            group = typer.main.get_command(app)
            assert isinstance(group, typer.core.TyperGroup)
            group.commands[name].make_context(name, [*arguments])
            seen.append(name)
    assert seen == ["run", "controller", "serve"]
