from __future__ import annotations

from typing import Any

from controlloop.api.interventions import Author
from controlloop.kube.authors import allocation_author, replicas_author, thin

MADE, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z"
LATER_S = 1767225610.0
LABEL = "f:inferno.server.allocation.accelerator"


def entry(manager: str, time: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = {"f:metadata": {"f:labels": more.pop("labels", {})}, "f:spec": spec}
    return {"manager": manager, "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields, **more}


def metadata(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"creationTimestamp": MADE, "managedFields": list(entries)}


TEMPLATE: dict[str, Any] = {"f:replicas": {}, "f:template": {"f:spec": {}}}
STATUS = entry("kube-controller-manager", LATER, {}, subresource="status")


def test_who_scaled_is_known_with_the_time() -> None:
    scaled = entry("kubectl", LATER, {"f:replicas": {}}, subresource="scale")
    made = entry("helm", MADE, {"f:template": {}})
    assert replicas_author(metadata(made, scaled, STATUS), "me") == Author("kubectl", LATER_S)


def test_the_time_of_an_entry_of_more_fields_says_nothing_of_the_replicas() -> None:
    assert replicas_author(metadata(entry("helm", LATER, TEMPLATE)), "me") == Author("helm")
    made = entry("kubectl", MADE, {"f:replicas": {}})
    assert replicas_author(metadata(made), "me") == Author("kubectl")


def test_a_value_that_others_agree_on_is_ours() -> None:
    both = metadata(
        entry("controlloop", MADE, {"f:replicas": {}}),
        entry("argo", LATER, {"f:replicas": {}}, operation="Apply"),
    )
    found = replicas_author(both, "controlloop")
    assert found is not None
    assert found.ours


def test_who_relabelled_is_told_apart_from_who_scaled() -> None:
    seen = metadata(
        entry("controlloop", LATER, {"f:replicas": {}}),
        entry("kubectl-label", LATER, {}, labels={LABEL: {}}),
    )
    assert allocation_author(seen, "controlloop") == Author("kubectl-label", LATER_S)


def test_thinned_fields_tell_the_same_and_what_says_nothing_is_gone() -> None:
    seen = metadata(entry("helm", LATER, TEMPLATE, labels={LABEL: {}, "f:app": {}}), STATUS)
    before = replicas_author(seen, "me"), allocation_author(seen, "me")
    thin(seen)
    assert (replicas_author(seen, "me"), allocation_author(seen, "me")) == before
    assert len(seen["managedFields"]) == 1
    assert "f:app" not in str(seen)
    pod = metadata(entry("kubelet", LATER, {"f:containers": {}}))
    thin(pod)
    assert "managedFields" not in pod


def test_an_object_that_says_nothing_has_no_author() -> None:
    assert replicas_author({}, "me") is None
