"""The objects that tests put into a cluster: GPU nodes and managed Deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EMULATED = {"testbed/engine": "emulated"}
"""The label of pods that the emulator plays; others are strangers that only take cards."""
APP = "app"
READY_AFTER = "testbed/ready-after"
GPU = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
MEMORY_LABEL = "nvidia.com/gpu.memory"
LONGEST_LABEL = 63
NO_SIBLING = {"key": "inferno.server.sibling", "operator": "DoesNotExist"}


@dataclass(frozen=True, slots=True)
class GpuNode:
    """A node with `gpus` cards of one product, labelled as GPU feature discovery does."""

    product: str = "A100"
    gpus: int = 8
    memory_mib: int = 81920
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    unschedulable: bool = False

    def manifest(self, name: str) -> dict[str, Any]:
        """The Node; kwok makes it Ready."""
        resources = {"cpu": "256", "memory": "2Ti", "pods": "1000"}
        if self.gpus:
            resources[GPU] = str(self.gpus)
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "kubernetes.io/hostname": name,
                    PRODUCT_LABEL: self.product,
                    MEMORY_LABEL: str(self.memory_mib),
                    **self.labels,
                },
            },
            "spec": {"taints": list(self.taints), "unschedulable": self.unschedulable},
            "status": {"allocatable": resources, "capacity": resources},
        }


@dataclass(frozen=True, slots=True)
class ManagedServer:
    """A Deployment of one inference server; "" or 0 leaves a label out.

    `gpus` is what one replica asks for. `ready_after` is how long a replica takes to start
    ("3s"; "never"); "" is at once. `siblings`: its selector leaves a sibling's pods out. `labels`
    and `annotations` are added to the Deployment, `pod_spec` is merged into the spec of its pods.
    """

    name: str
    model: str = "llama-8b"
    service_class: str = "Premium"
    accelerator: str = "A100"
    max_batch: int = 32
    replicas: int = 1
    gpus: int = 1
    product: str = "A100"
    ready_after: str = ""
    managed: bool = True
    siblings: bool = False
    emulated: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, str]] = ()
    pod_spec: Mapping[str, Any] = field(default_factory=dict)

    def manifest(self, namespace: str) -> dict[str, Any]:
        """The Deployment, its allocation said in labels, or in annotations where it must be."""
        said = {key: value for key, value in self._said().items() if value}
        labels = {key: value for key, value in said.items() if _fits_label(value)}
        too_long = {key: value for key, value in said.items() if not _fits_label(value)}
        pod_labels = {APP: self.name, **(EMULATED if self.emulated else {})}
        container = {
            "name": "server",
            "image": "vllm/vllm-openai",
            "args": [f"--model={self.model}", f"--max-num-seqs={self.max_batch}"],
            "resources": {"limits": {GPU: str(self.gpus)}} if self.gpus else {},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {**labels, **self.labels},
                "annotations": {**too_long, **self.annotations},
            },
            "spec": {
                "replicas": self.replicas,
                "selector": {
                    "matchLabels": {APP: self.name},
                    **({"matchExpressions": [NO_SIBLING]} if self.siblings else {}),
                },
                "template": {
                    "metadata": {
                        "labels": pod_labels,
                        "annotations": {READY_AFTER: self.ready_after} if self.ready_after else {},
                    },
                    "spec": {
                        "containers": [container],
                        "nodeSelector": {PRODUCT_LABEL: self.product} if self.product else {},
                        "tolerations": list(self.tolerations),
                        "terminationGracePeriodSeconds": 0,
                        **self.pod_spec,
                    },
                },
            },
        }

    def _said(self) -> dict[str, str]:
        if not self.managed:
            return {}
        return {
            "inferno.server.managed": "true",
            "inferno.server.name": self.name,
            "inferno.server.model": self.model,
            "inferno.server.class": self.service_class,
            "inferno.server.allocation.accelerator": self.accelerator,
            "inferno.server.allocation.maxbatchsize": str(self.max_batch or ""),
        }


def _fits_label(value: str) -> bool:
    return len(value) <= LONGEST_LABEL and "/" not in value
