"""What a reconciliation decides, writes and says, over objects kept in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.solution import Solution
from controlloop.api.switching import Place
from controlloop.api.system import System
from controlloop.clock import ManualClock
from controlloop.composition.switching import live_templates
from controlloop.errors import ConflictError, InputError, UnavailableError
from controlloop.optimizer import optimize
from controlloop.runtime_controller.reconciler import Reconciler
from controlloop.runtime_controller.source import CustomResourceSource
from controlloop.settings.tree import ActuatorSettings, Settings

PERF = {
    "acc": "H100",
    "maxBatchSize": 64,
    "atTokens": 128,
    "decodeParms": {"alpha": 8.0, "beta": 0.2},
    "prefillParms": {"gamma": 5.0, "delta": 0.005},
}
TARGET = {"model": "llama", "slo-itl": 12, "slo-ttft": 500}
LOAD = {"arrivalRate": 600, "avgInTokens": 128, "avgOutTokens": 128}


class Memory:
    """Implements `Store`; `refuses` are names whose statuses cannot be written."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = {(each["kind"], each["metadata"]["name"]): each for each in objects}
        self.events: list[tuple[str, str]] = []
        self.refuses: dict[str, Exception] = {}
        self.writes = 0

    def all(self, timeout_s: float) -> Sequence[Mapping[str, Any]]:
        return copy.deepcopy(list(self.objects.values()))

    def write_status(
        self, each: Mapping[str, Any], status: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        name = each["metadata"]["name"]
        if name in self.refuses:
            raise self.refuses[name]
        self.writes += 1
        kept = self.objects[each["kind"], name]
        kept["status"] = copy.deepcopy(dict(status))
        return kept

    def record(self, each: Mapping[str, Any], reason: str, message: str, timeout_s: float) -> None:
        self.events.append((each["metadata"]["name"], reason))

    def status(self, kind: str, name: str) -> Any:
        return self.objects[kind, name].get("status", {})

    def ready(self, kind: str, name: str) -> tuple[str, str]:
        found = [one for one in self.status(kind, name)["conditions"] if one["type"] == "Ready"]
        return found[0]["status"], found[0]["reason"]


def thing(kind: str, object_name: str, labels: Mapping[str, str] | None = None, **spec: Any) -> Any:
    metadata = {
        "name": object_name,
        "namespace": "n",
        "generation": 1,
        "labels": dict(labels or {}),
    }
    return {"kind": kind, "metadata": metadata, "spec": spec}


def fleet() -> list[Any]:
    return [
        thing("Accelerator", "h100", name="H100", type="H100", cost=40),
        thing("Capacity", "cards", count=[{"type": "H100", "count": 16}]),
        thing("Model", "llama", accelerators=[PERF]),
        thing("ServiceClass", "premium", name="Premium", priority=1, modelTargets=[TARGET]),
        server("chat"),
        thing("Optimizer", "opt"),
    ]


def server(name: str, **more: Any) -> Any:
    spec = {"class": "Premium", "model": "llama", "currentAlloc": {"load": dict(LOAD)}, **more}
    return thing("Server", name, **spec)


def reconciler(memory: Memory, clock: ManualClock | None = None) -> Reconciler:
    return Reconciler(memory, optimize, clock or ManualClock(1000.0))


def test_an_answer_goes_to_the_status_and_a_second_look_writes_nothing() -> None:
    memory = Memory(*fleet())
    clock = ManualClock(1000.0)
    assert reconciler(memory, clock).reconcile().written == 6
    allocation = memory.status("Server", "chat")["allocation"]
    assert (allocation["accelerator"], allocation["numReplicas"]) == ("H100", 1)
    assert memory.status("Optimizer", "opt")["servers"] == 1
    clock.advance(60)
    assert reconciler(memory, clock).reconcile().written == 0


def test_a_bad_object_stops_the_decision_and_keeps_the_last_one() -> None:
    memory = Memory(*fleet())
    reconciler(memory).reconcile()
    before = memory.status("Server", "chat")["allocation"]
    memory.objects["Server", "chat"]["spec"]["currentAlloc"]["load"]["arrivalRate"] = 60000
    bad = thing("Model", "broken", accelerators=[{**PERF, "maxBatchSize": -3}])
    memory.objects["Model", "broken"] = bad
    reconciler(memory).reconcile()
    assert memory.ready("Model", "broken") == ("False", "Invalid")
    assert memory.ready("Optimizer", "opt") == ("False", "InvalidObjects")
    assert memory.ready("Server", "chat") == ("False", "NotOptimized")
    assert memory.status("Server", "chat")["allocation"] == before
    told = memory.status("Model", "broken")["conditions"][0]["message"]
    assert told == "spec.accelerators[0].maxBatchSize: must be >= 1, got -3"


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (
            thing("Accelerator", "other", name="H100", type="H100", cost=1),
            'name "H100" is already given by Accelerator h100',
        ),
        (
            thing("Capacity", "more", count=[{"type": "H100", "count": 1}]),
            'type "H100" is already given by Capacity cards',
        ),
        (
            thing("Model", "zz", name="llama", accelerators=[PERF]),
            'model "llama on H100" is already given by Model llama',
        ),
        (
            thing("Model", "plug", accelerators=[{**PERF, "queueModel": "os:system"}]),
            'spec.accelerators.queueModel: must be one of our own, got "os:system"',
        ),
    ],
)
def test_what_contradicts_or_could_run_code_is_named(extra: Any, told: str) -> None:
    memory = Memory(*fleet(), extra)
    reconciler(memory).reconcile()
    status = memory.status(extra["kind"], extra["metadata"]["name"])
    assert status["conditions"][0]["message"] == told
    assert "allocation" not in memory.status("Server", "chat")


def test_a_solver_of_third_parties_is_not_loaded_from_an_object() -> None:
    memory = Memory(*fleet()[:-1], thing("Optimizer", "opt", solver="os:system"))
    reconciler(memory).reconcile()
    assert memory.ready("Optimizer", "opt") == ("False", "Invalid")


def test_who_is_not_served_says_why() -> None:
    objects = [each for each in fleet() if each["kind"] != "Capacity"]
    memory = Memory(*objects, thing("Capacity", "none", count=[{"type": "H100", "count": 0}]))
    reconciler(memory).reconcile()
    assert memory.ready("Server", "chat") == ("False", "NoCapacity")
    assert memory.ready("Optimizer", "opt") == ("True", "Unserved")
    assert memory.status("Optimizer", "opt")["unserved"] == 1


def test_optimizers_share_supply_and_part_servers_by_labels() -> None:
    objects = fleet()[:4]
    blue = server("blue")
    blue["metadata"]["labels"] = {"team": "blue"}
    chosen = thing("Optimizer", "a", selector={"matchLabels": {"team": "blue"}})
    for each in objects:
        each["metadata"]["labels"] = {"team": "blue"}
    memory = Memory(*objects, blue, server("grey"), chosen)
    reconciler(memory).reconcile()
    assert memory.status("Server", "blue")["optimizer"] == "a"
    assert memory.ready("Server", "grey") == ("False", "NoOptimizer")
    memory.objects["Optimizer", "b"] = thing("Optimizer", "b")
    reconciler(memory).reconcile()
    assert memory.status("Server", "blue")["optimizer"] == "a"
    assert memory.status("Server", "grey")["optimizer"] == "b"
    assert reconciler(memory).reconcile().written == 0


def test_one_write_that_fails_harms_no_other_and_is_told() -> None:
    memory = Memory(*fleet())
    memory.refuses = {"h100": UnavailableError("too busy"), "cards": ConflictError("changed")}
    done = reconciler(memory).reconcile()
    # A conflict is an event of its own; it is not a failure.
    assert done.failures == ("too busy",)
    assert memory.ready("Server", "chat") == ("True", "Allocated")


def test_a_deposed_leader_writes_nothing_more() -> None:
    memory = Memory(*fleet())
    done = Reconciler(memory, optimize, ManualClock(), may_write=lambda: False).reconcile()
    assert (done.written, memory.writes) == (0, 0)
    assert "became the writer" in done.failures[0]


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    memory, clock = Memory(*fleet()), ManualClock(0.0)
    reconciler(memory, clock).reconcile()
    clock.advance(3600)
    memory.objects["Server", "chat"]["spec"]["currentAlloc"]["load"]["arrivalRate"] = 900
    reconciler(memory, clock).reconcile()
    ready = memory.status("Server", "chat")["conditions"][0]
    assert ready["lastTransitionTime"] == "1970-01-01T00:00:00Z"


def test_an_optimizer_that_fails_says_so_and_keeps_what_is_there() -> None:
    memory = Memory(*fleet())
    reconciler(memory).reconcile()
    before = memory.status("Server", "chat")["allocation"]

    def fails(system: System) -> Solution:
        raise UnavailableError("no solver today")

    Reconciler(memory, fails, ManualClock()).reconcile()
    assert memory.ready("Optimizer", "opt") == ("False", "Failed")
    assert memory.status("Server", "chat")["allocation"] == before


def test_the_daemons_source_reads_the_same_objects_and_keeps_the_last_good() -> None:
    memory = Memory(*fleet())
    source = CustomResourceSource(memory, "", "mm1k", 5.0)
    system = source.load()
    assert [each.name for each in system.accelerators] == ["H100"]
    assert (system.servers, system.perf[0].queue_model) == ((), "mm1k")
    memory.objects["Accelerator", "h100"]["spec"]["cost"] = -1
    assert source.load() == system
    assert source.problem is not None
    assert "spec.cost: must be >= 0, got -1" in source.problem
    memory.objects["Accelerator", "h100"]["spec"]["cost"] = 50
    assert replace(source.load()).accelerators[0].cost_per_hour == 50
    assert source.problem is None


def test_the_daemons_source_knows_what_runs_a_server_on_an_accelerator() -> None:
    memory = Memory(*fleet())
    template = {
        "nodeSelector": {"product": "H100"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 3}],
        "limits": {"nvidia.com/gpu": "2"},
        "engine": "sglang",
    }
    memory.objects["Accelerator", "h100"]["spec"]["template"] = template
    source = CustomResourceSource(memory, "", "mm1k", 5.0)
    assert source.templates == {}
    assert [each.name for each in source.load().accelerators] == ["H100"]
    wished = live_templates(Settings(actuator=ActuatorSettings(object_templates=True)), source)
    assert wished is not None
    slots = wished()["H100"].slots(Place("H100", 64, 1))
    assert slots["limits/nvidia.com/gpu"] == '"2"'
    assert slots["argument/max-running-requests"] == "64"
    assert '"tolerationSeconds":3' in next(each for each in slots if each.startswith("toleration/"))
    memory.objects["Accelerator", "h100"]["spec"]["template"] = {"engine": "other"}
    source.load()
    assert source.problem is not None
    assert "spec.template.engine" in source.problem
    assert wished()["H100"].batch_name == "max-running-requests"
    del memory.objects["Accelerator", "h100"]["spec"]["template"]
    source.load()
    assert wished() == {}


def test_templates_of_objects_are_not_used_unasked() -> None:
    source = CustomResourceSource(Memory(*fleet()), "", "mm1k", 5.0)
    assert live_templates(Settings(), source) is None


def test_the_daemons_source_needs_to_know_which_optimizer() -> None:
    memory = Memory(*fleet(), thing("Optimizer", "second"))
    with pytest.raises(InputError, match="there must be exactly one, got opt, second"):
        CustomResourceSource(memory, "", "mm1k", 5.0).load()
    assert CustomResourceSource(memory, "second", "mm1k", 5.0).load().options.solver == ""
