"""A real control plane: etcd, API server with RBAC, controllers, scheduler, kwok."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from testbed.processes import Program, free_ports

ADMIN = "admin"
USERS = ("controlloop", "controlloop-standby", "plain")
"""Users without any group: each may do exactly what its RBAC bindings say."""

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "job-controller",
    "garbage-collector-controller",
    "pod-garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "disruption-controller",
    "namespace-controller",
    "endpointslice-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "resourcequota-controller",
    "clusterrole-aggregation-controller",
)
REQUESTS_PER_SECOND = 2000
"""A controller's own limit of 20 requests/s would make hundreds of Deployments slow."""


class ControlPlane:
    """The programs of one control plane, their files in one folder."""

    def __init__(self, programs: Mapping[str, Path], folder: Path) -> None:
        self.folder = folder
        self.kubectl = programs["kubectl"]
        client_port, peer_port, self._port = free_ports(3)
        self._tokens = {user: secrets.token_hex(16) for user in (ADMIN, *USERS)}
        self._write_files()
        etcd_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        admin_file = folder / f"{ADMIN}.kubeconfig"
        self.etcd = self._program(
            programs["etcd"],
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",
        )
        self.api_server = self._program(
            programs["kube-apiserver"],
            f"--etcd-servers={etcd_url}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder}",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'service-account.key'}",
            f"--service-account-signing-key-file={folder / 'service-account.key'}",
        )
        self.controller_manager = self._program(
            programs["kube-controller-manager"],
            f"--kubeconfig={admin_file}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--kube-api-qps={REQUESTS_PER_SECOND}",
            f"--kube-api-burst={2 * REQUESTS_PER_SECOND}",
            "--concurrent-deployment-syncs=20",
            "--concurrent-replicaset-syncs=20",
            # On a busy machine kwok renews hundreds of leases late, and no kubelet would make the
            # pods ready again that are taken for lost meanwhile. Tests report nodes unready.
            "--node-monitor-grace-period=10m",
        )
        self.scheduler = self._program(
            programs["kube-scheduler"], f"--config={folder / 'scheduler.yaml'}", "--secure-port=0"
        )
        self.kwok = self._program(
            programs["kwok"],
            f"--kubeconfig={admin_file}",
            f"--config={Path(__file__).with_name('stages.yaml')}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--cidr=10.64.0.1/12",
            "--node-ip=127.0.0.1",
            "--node-lease-duration-seconds=40",
        )

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """Certificates by which the API server proves itself."""
        return self.folder / "apiserver.crt"

    @property
    def programs(self) -> tuple[Program, ...]:
        """All of them, in the order in which they start."""
        return (self.etcd, self.api_server, self.controller_manager, self.scheduler, self.kwok)

    def token(self, user: str) -> str:
        """The bearer token of one of `ADMIN` and `USERS`."""
        return self._tokens[user]

    def start(self) -> None:
        """Start what does not run; return once the API server is ready."""
        for program in (self.etcd, self.api_server):
            if not program.running:
                program.start()
        self.api_server.await_ready(self._api_ready)
        for program in self.programs:
            if not program.running:
                program.start()

    def kill_api_server(self) -> None:
        """SIGKILL to the API server alone; what it stored stays in etcd."""
        self.api_server.kill()

    def restart_api_server(self) -> None:
        """Kill it, start it on the same port, wait until it is ready."""
        self.kill_api_server()
        self.start()

    def close(self) -> None:
        """Kill everything."""
        for program in reversed(self.programs):
            program.close()

    def kubeconfig(self, user: str, server: str | None = None) -> Path:
        """A kubeconfig file of `user`; `server` may name a proxy that stands before the API."""
        if server is None:
            return self.folder / f"{user}.kubeconfig"
        path = self.folder / f"{user}-{server.rsplit(':', 1)[-1].strip('/')}.kubeconfig"
        self._write_kubeconfig(path, user, server)
        return path

    def session(self, user: str = ADMIN) -> requests.Session:
        """An HTTP session of `user` that trusts this API server; close it."""
        session = requests.Session()
        # The environment's bundle of certificates would win over the session's own.
        session.trust_env = False
        session.verify = str(self.ca_file)
        session.headers["Authorization"] = f"Bearer {self.token(user)}"
        return session

    def get(self, path: str, user: str = ADMIN) -> Any:
        """The JSON at `path`; raises requests.RequestException on anything but success."""
        with self.session(user) as session:
            answer = session.get(f"{self.url}{path}", timeout=30)
            answer.raise_for_status()
            return answer.json()

    def _api_ready(self) -> bool:
        if not self.ca_file.exists():
            return False
        try:
            return requests.get(f"{self.url}/readyz", verify=str(self.ca_file), timeout=10).ok
        except (OSError, requests.RequestException):
            return False

    def _program(self, path: Path, *arguments: str) -> Program:
        return Program([path, *arguments], self.folder / f"{path.name}.log")

    def _write_files(self) -> None:
        rows = [
            f'{token},{user},{user},"system:masters"' if user == ADMIN else f"{token},{user},{user}"
            for user, token in self._tokens.items()
        ]
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")
        (self.folder / "service-account.key").write_text(_new_private_key())
        for user in self._tokens:
            self._write_kubeconfig(self.folder / f"{user}.kubeconfig", user, self.url)
        (self.folder / "scheduler.yaml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubescheduler.config.k8s.io/v1",
                    "kind": "KubeSchedulerConfiguration",
                    "leaderElection": {"leaderElect": False},
                    "clientConnection": {
                        "kubeconfig": str(self.folder / f"{ADMIN}.kubeconfig"),
                        "qps": REQUESTS_PER_SECOND,
                        "burst": 2 * REQUESTS_PER_SECOND,
                    },
                    "podInitialBackoffSeconds": 1,
                    "podMaxBackoffSeconds": 1,
                }
            )
        )

    def _write_kubeconfig(self, path: Path, user: str, server: str) -> None:
        cluster: dict[str, Any] = {"server": server}
        if server.startswith("https"):
            cluster["certificate-authority"] = str(self.ca_file)
        entries: Sequence[tuple[str, str, dict[str, Any]]] = (
            ("clusters", "cluster", cluster),
            ("users", "user", {"token": self._tokens[user]}),
            ("contexts", "context", {"cluster": "testbed", "user": "testbed"}),
        )
        content: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "testbed",
        }
        for group, kind, value in entries:
            content[group] = [{"name": "testbed", kind: value}]
        path.write_text(yaml.safe_dump(content))


def _new_private_key() -> str:
    """An elliptic key (P-256) in the form of RFC 5915, which needs no cryptographic library."""
    head, curve = bytes.fromhex("30310201010420"), bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.b64encode(head + secrets.token_bytes(32) + curve).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n"
