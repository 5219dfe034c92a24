"""The first patch of a switch: what it changes, what it never lowers, and how long it may take."""

from __future__ import annotations

import pytest

from controlloop.actuator.switching import BRAKE_S, SwitchOptions, begin
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.decision import Action, Decision, Patch, TemplateChange
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.switching import PodTemplate, Rollable
from controlloop.api.system import Allocation

ARGS = ("--model=m", "--max-num-seqs=16", "--enforce-eager")
WORKLOAD = Workload(
    WorkloadRef("ns", "chat"),
    "chat",
    "m",
    "Free",
    "A100",
    16,
    7,
    rollable=Rollable(PodTemplate("engine", args=ARGS)),
)
OPTIONS = SwitchOptions(startup_s=100.0)


def begun(replicas: int, surge: int, **template: object) -> tuple[Patch, TemplateChange]:
    desired = Allocation("A100", replicas, 64)
    current = Allocation("A100", 7, 16)
    decision = Decision("chat", Action.SWITCH, current, desired, "why", surge=surge)
    made = AcceleratorTemplate(**template)  # type: ignore[arg-type]
    patch = begin(WORKLOAD, decision, {"A100": made}, OPTIONS, 1000.0)
    assert isinstance(patch, Patch)
    assert patch.change is not None
    return patch, patch.change


def test_another_batch_changes_one_argument_and_the_label_and_lowers_nothing() -> None:
    patch, change = begun(3, 3)
    assert change.after is not None
    assert change.after.args == ("--model=m", "--max-num-seqs=64", "--enforce-eager")
    assert patch.replicas == 7
    assert patch.labels["inferno.server.allocation.maxbatchsize"] == "64"
    assert change.shape is not None
    assert (change.shape.max_surge, change.shape.min_ready_s) == ("3", BRAKE_S)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"batch_name": "max-running-requests"}, "--max-running-requests=64"),
        ({"separate": True}, "--max-num-seqs 64"),
    ],
)
def test_each_engine_is_told_its_batch_in_its_own_words(
    template: dict[str, object], words: str
) -> None:
    _, change = begun(3, 3, **template)
    assert change.after is not None
    assert words in " ".join(change.after.args)


@pytest.mark.parametrize(
    ("replicas", "surge", "waves"), [(3, 3, 1), (3, 2, 4), (9, 9, 1), (7, 1, 7)]
)
def test_each_wave_of_a_rolling_change_has_the_time_of_a_start(
    replicas: int, surge: int, waves: int
) -> None:
    patch, change = begun(replicas, surge)
    assert patch.replicas == max(replicas, 7)
    assert change.shape is not None
    assert (change.shape.max_surge, change.shape.max_unavailable) == (str(surge), "0")
    assert f'"deadline_at":{1000.0 + waves * 100.0}' in str(
        change.annotations["inferno.server.switch"]
    )
