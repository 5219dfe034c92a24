"""One test's share of the cluster: a namespace, its nodes, its Deployments."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from testbed.control_plane import ADMIN, ControlPlane
from testbed.objects import APP, GpuNode, ManagedServer
from testbed.pods import is_ready
from testbed.waiting import until

CORE = "/api/v1/namespaces/{}/"
APPS = "/apis/apps/v1/namespaces/{}/"
WATCHED_KINDS = (
    APPS + "deployments",
    APPS + "replicasets",
    APPS + "statefulsets",
    CORE + "pods",
    CORE + "configmaps",
    CORE + "secrets",
    CORE + "services",
    CORE + "events",
    "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
)
NOT_FOUND = 404


class Fleet:
    """A namespace of its own, and nodes that go away with it.

    `api`, `core` and `apps` are the administrator's Kubernetes clients.
    """

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self.api: Any = config.new_client_from_config(  # type: ignore[no-untyped-call]
            str(control_plane.kubeconfig(ADMIN))
        )
        self.core: Any = client.CoreV1Api(self.api)
        self.apps: Any = client.AppsV1Api(self.api)
        self._rbac: Any = client.RbacAuthorizationV1Api(self.api)
        self._nodes: list[str] = []
        self._granted: list[str] = []
        self._session = control_plane.session()
        self._create("/api/v1/namespaces", {"metadata": {"name": namespace}})

    def add_nodes(self, node: GpuNode, count: int = 1) -> list[str]:
        """Create `count` nodes, wait until they are Ready; return their names."""
        first = len(self._nodes)
        names = [f"{self.namespace}-node-{first + number}" for number in range(count)]
        for name in names:
            self._nodes.append(name)
            self._create("/api/v1/nodes", node.manifest(name))
        until(lambda: set(names) <= self._ready_nodes(), f"nodes {names} Ready")
        return names

    def add_servers(self, *servers: ManagedServer) -> None:
        """Create the Deployments; does not wait for their pods."""
        for server in servers:
            self._create(
                f"{APPS}deployments".format(self.namespace), server.manifest(self.namespace)
            )

    def deployment(self, name: str) -> Any:
        """The Deployment as the client's object."""
        return self.apps.read_namespaced_deployment(name, self.namespace)

    def replicas(self, name: str) -> int:
        """How many replicas its spec asks for."""
        return int(self.deployment(name).spec.replicas)

    def scale(self, name: str, replicas: int) -> None:
        """Set the replicas as a person would."""
        self.patch(name, {"spec": {"replicas": replicas}})

    def patch(self, name: str, body: Mapping[str, Any]) -> None:
        """Patch the Deployment as the administrator."""
        self.apps.patch_namespaced_deployment(name, self.namespace, body)

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON at `path` of the API server; raises on anything but success."""
        answer = self._session.get(f"{self.control_plane.url}{path}", params=parameters, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def pods(self, name: str = "") -> list[Any]:
        """Pods of one Deployment, or all of the namespace; those being deleted count too."""
        selector = f"{APP}={name}" if name else ""
        pods = self.core.list_namespaced_pod(self.namespace, label_selector=selector)
        return list(pods.items)

    def ready_pods(self, name: str = "") -> list[str]:
        """Names of the pods that are Ready and stay."""
        pods = self.get(
            f"{CORE}pods".format(self.namespace), labelSelector=f"{APP}={name}" if name else ""
        )
        return [pod["metadata"]["name"] for pod in pods["items"] if is_ready(pod)]

    def await_ready(self, name: str, count: int, timeout_s: float = 60.0) -> list[str]:
        """Wait until exactly `count` pods of the Deployment are Ready; return their names."""
        until(lambda: len(self.ready_pods(name)) == count, f"{count} ready of {name}", timeout_s)
        return self.ready_pods(name)

    def await_pods_ready(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until `count` pods of the whole namespace are Ready."""
        until(lambda: len(self.ready_pods()) == count, f"{count} ready pods", timeout_s, 0.25)

    def delete(self, name: str) -> None:
        """Delete the Deployment; its pods follow."""
        self.apps.delete_namespaced_deployment(name, self.namespace)

    def restart_container(self, pod: str) -> None:
        """Count one more restart in the pod's status, as a kubelet does after a crash.

        Tell the emulator too: what it serves is another program's affair.
        """
        status = self.core.read_namespaced_pod(pod, self.namespace).status
        restarted = [
            {"name": container.name, "restartCount": container.restart_count + 1}
            for container in status.container_statuses
        ]
        self.core.patch_namespaced_pod_status(
            pod, self.namespace, {"status": {"containerStatuses": restarted}}
        )

    def set_node_ready(self, name: str, *, ready: bool) -> None:
        """Report the node's health as its kubelet would; the controllers taint it and evict.

        They evict nothing while no node at all is Ready: that looks like their own fault.
        """
        condition = {"type": "Ready", "status": str(ready), "reason": "SetByTest"}
        self.core.patch_node_status(name, {"status": {"conditions": [condition]}})

    def resource_versions(self) -> dict[str, str]:
        """resourceVersion of everything in the namespace, by path: equal means untouched."""
        versions = {}
        for kind in WATCHED_KINDS:
            path = kind.format(self.namespace)
            for item in self.get(path)["items"]:
                metadata = item["metadata"]
                versions[f"{path}/{metadata['name']}"] = metadata["resourceVersion"]
        return versions

    def grant(self, user: str, rules: Sequence[Mapping[str, Sequence[str]]]) -> None:
        """Bind `user` to a ClusterRole of these rules until the test ends."""
        name = f"{self.namespace}-{len(self._granted)}"
        self._granted.append(name)
        self._rbac.create_cluster_role({"metadata": {"name": name}, "rules": list(rules)})
        self._rbac.create_cluster_role_binding(
            {
                "metadata": {"name": name},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": name,
                },
                "subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
                ],
            }
        )

    def kubectl(self, *arguments: str, user: str = ADMIN, stdin: str = "") -> str:
        """What kubectl prints; raises RuntimeError with its complaint when it fails."""
        command = [
            str(self.control_plane.kubectl),
            f"--kubeconfig={self.control_plane.kubeconfig(user)}",
            f"--cache-dir={self.control_plane.folder / 'kubectl-cache'}",
            f"--namespace={self.namespace}",
            *arguments,
        ]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: Mapping[str, Any], user: str = ADMIN) -> None:
        """Server-side apply of any objects, as kubectl does it."""
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self.kubectl("apply", "--server-side", "-f", "-", user=user, stdin=everything)

    def close(self) -> None:
        """Delete all of it; returns when no pod and no node of this test is left."""
        self.apps.delete_collection_namespaced_deployment(self.namespace)
        self.apps.delete_collection_namespaced_replica_set(self.namespace)
        self.core.delete_collection_namespaced_pod(self.namespace, grace_period_seconds=0)
        self.core.delete_namespace(self.namespace)
        for name in self._granted:
            self._rbac.delete_cluster_role_binding(name)
            self._rbac.delete_cluster_role(name)
        until(lambda: not self.pods(), f"pods of {self.namespace} gone", timeout_s=60.0)
        for name in self._nodes:
            self._delete_node(name)
        self.api.close()
        self._session.close()

    def _create(self, path: str, body: Mapping[str, Any]) -> None:
        answer = self._session.post(f"{self.control_plane.url}{path}", json=body, timeout=30)
        if not answer.ok:
            raise RuntimeError(f"POST {path}: {answer.json()['message']}")

    def _delete_node(self, name: str) -> None:
        try:
            self.core.delete_node(name)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise

    def _ready_nodes(self) -> set[str]:
        return {
            node.metadata.name
            for node in self.core.list_node().items
            if any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())
            and not any(
                taint.key == "node.kubernetes.io/not-ready" for taint in node.spec.taints or ()
            )
        }
