from __future__ import annotations

from typing import Any

import pytest

from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.system import Load
from controlloop.kube.parsing import parse_pod, parse_workload, pods_by_deployment
from controlloop.kube.scalers import scalers_by_target

LABELS = {
    "inferno.server.managed": "true",
    "inferno.server.name": "llama-premium",
    "inferno.server.model": "llama-8b",
    "inferno.server.class": "Premium",
    "inferno.server.allocation.accelerator": "A100",
    "inferno.server.allocation.maxbatchsize": "32",
}


def a_deployment(
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A Deployment of three replicas, all rolled out."""
    done = {"observedGeneration": 7, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 2}
    return {
        "metadata": {
            "namespace": "llm",
            "name": "llama",
            "uid": "d1",
            "resourceVersion": "4711",
            "generation": 7,
            "labels": {**LABELS, **(labels or {})},
            "annotations": annotations or {},
        },
        "spec": {"replicas": 3, **(spec or {})},
        "status": {**done, **(status or {})},
    }


def parsed(**parts: Any) -> Workload:
    return parse_workload(a_deployment(**parts), [], None)


def only_hold(workload: Workload) -> tuple[HoldReason, Forbids, str]:
    (hold,) = workload.holds
    return hold.reason, hold.forbids, hold.detail


def test_a_described_deployment_reads_as_a_workload_without_holds() -> None:
    workload = parsed()
    assert workload.ref == WorkloadRef("llm", "llama", "d1", "4711")
    assert (workload.server, workload.model, workload.service_class) == (
        "llama-premium",
        "llama-8b",
        "Premium",
    )
    assert (workload.accelerator, workload.max_batch) == ("A100", 32)
    assert (workload.replicas, workload.ready_replicas) == (3, 2)
    assert workload.static_load is None
    assert workload.labels == LABELS
    assert workload.holds == ()


def test_an_annotation_takes_precedence_over_the_label_of_the_same_key() -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct-with-a-name-longer-than-any-label-value-may-be"
    assert parsed(annotations={"inferno.server.model": model}).model == model


def test_a_server_without_a_class_is_free() -> None:
    deployment = a_deployment()
    del deployment["metadata"]["labels"]["inferno.server.class"]
    assert parse_workload(deployment, [], None).service_class == "Free"


def test_optional_labels_are_read() -> None:
    workload = parsed(
        labels={
            "inferno.server.minreplicas": "2",
            "inferno.server.maxreplicas": "9",
            "inferno.server.keepaccelerator": "True",
            "inferno.server.keepmaxbatch": "true",
            "inferno.server.load.rpm": "90",
            "inferno.server.load.intokens": "128",
            "inferno.server.load.outtokens": "512",
        }
    )
    assert (workload.min_replicas, workload.max_replicas) == (2, 9)
    assert workload.keep_accelerator
    assert workload.keep_batch
    assert workload.static_load == Load(1.5, 128.0, 512.0)
    assert workload.holds == ()


def test_a_rate_of_zero_needs_no_token_lengths() -> None:
    assert parsed(labels={"inferno.server.load.rpm": "0"}).static_load == Load()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minreplicas", "two"),
        ("minreplicas", "-1"),
        ("maxreplicas", "1.5"),
        ("maxreplicas", "²"),
        ("allocation.maxbatchsize", "many"),
        ("keepaccelerator", "yes"),
        ("paused", "1"),
        ("load.rpm", "nan"),
        ("load.rpm", "-3"),
        ("load.rpm", "1e300"),
        ("load.rpm", "60"),
        ("load.outtokens", "inf"),
    ],
)
def test_a_bad_value_holds_the_server_and_is_named(key: str, value: str) -> None:
    reason, forbidden, detail = only_hold(parsed(labels={f"inferno.server.{key}": value}))
    assert (reason, forbidden) == (HoldReason.LABELS_INVALID, Forbids.CHANGE)
    assert f"inferno.server.{key}" in detail
    assert repr(value) in detail


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb"])
def test_what_no_terminal_should_be_shown_holds_the_server(text: str) -> None:
    reason, forbidden, detail = only_hold(parsed(annotations={"inferno.server.model": text}))
    assert (reason, forbidden) == (HoldReason.LABELS_INVALID, Forbids.CHANGE)
    assert detail.startswith("inferno.server.model: must be printable text, got ")
    assert detail.isprintable()


@pytest.mark.parametrize("key", ["name", "model", "allocation.accelerator"])
def test_a_missing_label_holds_the_server_and_is_named(key: str) -> None:
    deployment = a_deployment()
    del deployment["metadata"]["labels"][f"inferno.server.{key}"]
    reason, forbidden, detail = only_hold(parse_workload(deployment, [], None))
    assert (reason, forbidden) == (HoldReason.LABELS_INVALID, Forbids.CHANGE)
    assert detail.startswith(f"inferno.server.{key}: must be given")


def test_a_server_without_a_name_is_called_by_its_object() -> None:
    assert parsed(labels={"inferno.server.name": ""}).server == "llm/llama"


def test_every_bad_value_is_found_at_once() -> None:
    workload = parsed(
        labels={"inferno.server.minreplicas": "x", "inferno.server.keepaccelerator": "x"}
    )
    assert len(workload.holds) == 2


def test_a_maximum_below_the_minimum_is_a_bad_value() -> None:
    workload = parsed(labels={"inferno.server.minreplicas": "4", "inferno.server.maxreplicas": "2"})
    assert only_hold(workload)[0] is HoldReason.LABELS_INVALID


def test_a_paused_server_changes_in_no_direction() -> None:
    workload = parsed(annotations={"inferno.server.paused": "true"})
    assert only_hold(workload)[:2] == (HoldReason.PAUSED, Forbids.CHANGE)


@pytest.mark.parametrize(
    ("way", "forbids"),
    [("up", Forbids.INCREASE), ("Down", Forbids.DECREASE), ("all", Forbids.CHANGE)],
)
def test_a_server_is_paused_in_one_direction_or_in_both(way: str, forbids: Forbids) -> None:
    workload = parsed(annotations={"inferno.server.pause": way})
    assert only_hold(workload)[:2] == (HoldReason.PAUSED, forbids)


def test_a_pause_in_no_direction_that_is_known_holds_the_server_and_is_named() -> None:
    reason, forbids, detail = only_hold(parsed(annotations={"inferno.server.pause": "sideways"}))
    assert (reason, forbids) == (HoldReason.LABELS_INVALID, Forbids.CHANGE)
    assert "must be up, down or all, got 'sideways'" in detail


@pytest.mark.parametrize(
    ("spec", "status", "said"),
    [
        ({}, {"observedGeneration": 6}, "generation 6 of 7"),
        ({}, {"updatedReplicas": 1, "replicas": 4}, "1 of 3 pods"),
        ({}, {"replicas": 5}, "2 pods of an older template"),
        ({"replicas": 6}, {}, "3 of 6 pods"),
        ({"paused": True}, {}, "spec.paused"),
    ],
)
def test_a_rollout_in_progress_forbids_a_decrease_only(
    spec: dict[str, Any], status: dict[str, Any], said: str
) -> None:
    workload = parsed(spec=spec, status=status)
    reason, forbids, detail = only_hold(workload)
    assert reason is HoldReason.ROLLOUT
    assert said in detail
    assert forbids is Forbids.DECREASE


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"type": "ReplicaFailure", "status": "True"}, HoldReason.PODS_REFUSED),
        ({"type": "ReplicaFailure", "status": "False"}, HoldReason.ROLLOUT),
        (
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
            HoldReason.PODS_NOT_READY,
        ),
        (
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"},
            HoldReason.ROLLOUT,
        ),
    ],
)
def test_pods_that_cannot_be_made_or_do_not_come_are_told_from_those_on_their_way(
    condition: dict[str, Any], expected: HoldReason
) -> None:
    told = {**condition, "message": "exceeded quota"}
    workload = parsed(spec={"replicas": 6}, status={"conditions": [told]})
    reason, forbids, detail = only_hold(workload)
    assert (reason, forbids) == (expected, Forbids.DECREASE)
    assert ("exceeded quota" in detail) is (expected is not HoldReason.ROLLOUT)


def test_pods_that_are_not_ready_are_no_rollout() -> None:
    assert parsed(status={"readyReplicas": 0, "availableReplicas": 0}).holds == ()


def test_a_deployment_that_another_controller_scales_changes_in_no_direction() -> None:
    autoscaler = {
        "metadata": {"namespace": "llm", "name": "theirs"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "llama"}},
    }
    scalers = scalers_by_target([autoscaler], [])
    workload = parse_workload(a_deployment(), [], scalers["Deployment", "llm", "llama"])
    reason, forbidden, detail = only_hold(workload)
    assert (reason, forbidden) == (HoldReason.OTHER_SCALER, Forbids.CHANGE)
    assert "HorizontalPodAutoscaler llm/theirs" in detail


def test_a_scaled_object_is_named_before_the_autoscaler_made_for_it() -> None:
    def scaler(name: str, target: dict[str, str]) -> dict[str, Any]:
        return {
            "metadata": {"namespace": "llm", "name": name},
            "spec": {"scaleTargetRef": target},
        }

    made = scaler("keda-hpa-llama", {"kind": "Deployment", "name": "llama"})
    other_kind = scaler("sets", {"kind": "StatefulSet", "name": "llama-2"})
    written = scaler("llama", {"name": "llama"})
    assert scalers_by_target([made, other_kind], [written]) == {
        ("Deployment", "llm", "llama"): "ScaledObject llm/llama",
        ("StatefulSet", "llm", "llama-2"): "HorizontalPodAutoscaler llm/sets",
    }


def owned_by(kind: str, uid: str, controller: bool = True) -> list[dict[str, Any]]:
    return [{"kind": kind, "uid": uid, "controller": controller}]


def test_pods_of_every_replica_set_belong_to_the_deployment() -> None:
    replica_sets: list[dict[str, Any]] = [
        {"metadata": {"uid": "old", "ownerReferences": owned_by("Deployment", "d1")}},
        {"metadata": {"uid": "new", "ownerReferences": owned_by("Deployment", "d1")}},
        {"metadata": {"uid": "lone"}},
    ]
    pods: list[dict[str, Any]] = [
        {"metadata": {"name": name, "ownerReferences": owners}}
        for name, owners in [
            ("a", owned_by("ReplicaSet", "old")),
            ("b", owned_by("ReplicaSet", "new")),
            ("c", owned_by("ReplicaSet", "lone")),
            ("d", owned_by("ReplicaSet", "new", controller=False)),
            ("e", owned_by("StatefulSet", "new")),
            ("f", []),
        ]
    ]
    owned = pods_by_deployment(replica_sets, pods)
    assert {owner: [pod["metadata"]["name"] for pod in mine] for owner, mine in owned.items()} == {
        "d1": ["a", "b"]
    }


def test_a_pod_says_its_state_and_its_restarts() -> None:
    pod = parse_pod(
        {
            "metadata": {"name": "a", "uid": "u", "deletionTimestamp": "2026-01-01T00:01:00Z"},
            "spec": {"nodeName": "n"},
            "status": {
                "phase": "Running",
                "startTime": "2026-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [
                    {
                        "restartCount": 2,
                        "state": {"running": {"startedAt": "2026-01-01T00:00:30Z"}},
                    },
                    {
                        "restartCount": 1,
                        "state": {"waiting": {}},
                        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:40Z"}},
                    },
                    {
                        "restartCount": 0,
                        "state": {"running": {"startedAt": "2026-01-01T00:00:50Z"}},
                    },
                ],
            },
        }
    )
    assert (pod.phase, pod.ready, pod.scheduled, pod.terminating) == ("Running", True, True, True)
    assert pod.restarts == 3
    assert pod.started_at is not None
    assert pod.restarted_at == pod.started_at + 40


def test_a_pod_that_waits_for_a_node_is_neither_scheduled_nor_ready() -> None:
    pod = parse_pod({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Pending"}})
    assert (pod.scheduled, pod.ready, pod.started_at, pod.restarted_at) == (
        False,
        False,
        None,
        None,
    )


def test_a_pod_says_since_when_it_is_ready_and_only_while_it_is() -> None:
    def since(ready: str) -> float | None:
        condition = {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:30Z"}
        status = {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [condition],
        }
        pod = parse_pod({"metadata": {"name": "a"}, "spec": {}, "status": status})
        assert pod.started_at is not None
        return None if pod.ready_since is None else pod.ready_since - pod.started_at

    assert since("True") == 30.0
    assert since("False") is None


@pytest.mark.parametrize("key", ["minreplicas", "maxreplicas", "allocation.maxbatchsize"])
@pytest.mark.parametrize("digits", [10, 19, 40, 5000])
def test_a_count_beyond_any_count_holds_its_server_and_no_other(key: str, digits: int) -> None:
    workload = parsed(annotations={f"inferno.server.{key}": "9" * digits})
    reason, forbidden, detail = only_hold(workload)
    assert (reason, forbidden) == (HoldReason.LABELS_INVALID, Forbids.CHANGE)
    assert "from 0 to 2147483647" in detail
    assert len(detail) < 300


def test_no_replica_is_no_maximum() -> None:
    _, _, detail = only_hold(parsed(labels={"inferno.server.maxreplicas": "0"}))
    assert "must be >= 1" in detail
