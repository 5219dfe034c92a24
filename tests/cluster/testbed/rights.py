"""The shipped roles, bound to a user of ours: as they are, or without a single right."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from testbed.fleet import Fleet
from testbed.proxy import Request

RBAC = "rbac.authorization.k8s.io"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource; `namespace` and `name` "" are any."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def covers(self, other: Right) -> bool:
        """Whether who has this may do `other`."""
        return (
            (self.verb, self.group, self.resource) == (other.verb, other.group, other.resource)
            and self.namespace in ("", other.namespace)
            and self.name in ("", other.name)
        )


class Roles:
    """The roles of one kustomization, under names and in namespaces of the test's.

    Args:
        fleet: the test's share of the cluster.
        folder: the kustomization.
        namespaces: what stands for the shipped namespaces.
        user: who gets these roles; has no other.

    """

    def __init__(self, fleet: Fleet, folder: str, namespaces: Mapping[str, str], user: str) -> None:
        self._fleet = fleet
        self._user = user
        built = yaml.safe_load_all(fleet.kubectl("kustomize", folder))
        self._roles: dict[tuple[str, str], list[Right]] = {}
        for each in built:
            if each["kind"] in ("Role", "ClusterRole"):
                key = (namespaces.get(each["metadata"].get("namespace", ""), ""), each["kind"])
                self._roles.setdefault(key, []).extend(_rights(each["rules"], key[0]))

    @property
    def rights(self) -> list[Right]:
        """Every single one."""
        return [each for some in self._roles.values() for each in some]

    def apply(self, without: Right | None = None) -> None:
        """Put them in force, all or all but one."""
        manifests: list[dict[str, Any]] = []
        for (namespace, kind), rights in self._roles.items():
            name = {"name": f"{self._fleet.namespace}-{self._user}"}
            metadata = {**name, "namespace": namespace} if namespace else name
            rules = [_rule(each) for each in rights if each != without]
            manifests += [
                {
                    "apiVersion": f"{RBAC}/v1",
                    "kind": kind,
                    "metadata": metadata,
                    "rules": rules,
                },
                {
                    "apiVersion": f"{RBAC}/v1",
                    "kind": f"{kind}Binding",
                    "metadata": metadata,
                    "roleRef": {"apiGroup": RBAC, "kind": kind, **name},
                    "subjects": [{"kind": "User", "name": self._user, "apiGroup": RBAC}],
                },
            ]
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        # Each in the namespace that it names itself.
        self._fleet.kubectl("apply", "--server-side", "--namespace=", "-f", "-", stdin=everything)

    def remove(self) -> None:
        """Take all of them away."""
        for namespace, kind in self._roles:
            where = [f"--namespace={namespace}"] if namespace else []
            name = f"{self._fleet.namespace}-{self._user}"
            self._fleet.kubectl("delete", *where, f"{kind},{kind}Binding", name)


def used(requests: Iterable[Request]) -> set[Right]:
    """The rights that these requests need; what every user may do is left out."""
    return {right for each in requests if (right := _used(each)) is not None}


def _used(request: Request) -> Right | None:
    parts = request.path.strip("/").split("/")
    if parts[0] == "api":
        group, rest = "", parts[2:]
    elif parts[0] == "apis":
        group, rest = "".join(parts[1:2]), parts[3:]
    else:
        return None
    if group == "authorization.k8s.io" or not rest:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name = rest[0], rest[1] if len(rest) > 1 else ""
    if len(rest) > 2:
        resource = f"{resource}/{rest[2]}"
    verb = VERBS.get(request.method) or ("get" if name else "list")
    if "watch=true" in request.query:
        verb = "watch"
    return Right(verb, group, resource, namespace, name)


def _rights(rules: Iterable[Mapping[str, Any]], namespace: str) -> list[Right]:
    return [
        Right(verb, group, resource, namespace, name)
        for rule in rules
        for verb, group, resource, name in itertools.product(
            rule["verbs"], rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
        )
    ]


def _rule(right: Right) -> dict[str, list[str]]:
    rule = {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb]}
    return {**rule, "resourceNames": [right.name]} if right.name else rule
