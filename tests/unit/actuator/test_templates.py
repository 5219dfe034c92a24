"""A move changes what the templates own and nothing else, and the way back restores it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.actuator.templates import AcceleratorTemplate, BatchForm, moved, why_not_editable
from controlloop.actuator.words import rewritten, value_of
from controlloop.api.switching import Place, PodTemplate

pytestmark = pytest.mark.slow

A100 = AcceleratorTemplate(
    node_selector={"gpu": "a100"},
    limits={"nvidia.com/gpu": "1"},
    arguments={"gpu-memory-utilization": "0.9"},
)
MI300 = AcceleratorTemplate(
    node_selector={"amd": "mi300"},
    tolerations=({"key": "amd", "operator": "Exists"},),
    limits={"amd.com/gpu": "2"},
    image="sglang:rocm",
    runtime_class="amd",
    arguments={"tensor-parallel-size": "2", "gpu-memory-utilization": "0.8"},
    environment={"HSA": "1"},
    batch_name="MAX_RUNNING",
    batch_form=BatchForm.ENVIRONMENT,
)
OLD, NEW = Place("A100", 32, 8), Place("MI300", 64, 2)

names = st.sampled_from(["gpu", "amd", "zone", "HSA", "HOME"])
values = st.dictionaries(names, st.text("abc", min_size=1, max_size=3), max_size=3)
templates = st.builds(
    AcceleratorTemplate,
    node_selector=values,
    limits=values,
    environment=values,
    arguments=values,
    image=st.sampled_from(["", "x", "y"]),
    runtime_class=st.sampled_from(["", "r"]),
    separate=st.booleans(),
    tolerations=st.sampled_from([(), ({"key": "a"},), ({"key": "b"},)]),
)
words = st.lists(
    st.sampled_from(["serve", "--model=m", "80", "--zone=x", "--HSA=3", "-v"]), max_size=5
)


@st.composite
def pods(draw: st.DrawFn) -> PodTemplate:
    fields = {
        f"{kind}/{name}": json.dumps(value)
        for kind in ("nodeSelector", "limits")
        for name, value in draw(values).items()
    }
    fields |= {
        f"env/{name}": json.dumps({"name": name, "value": value})
        for name, value in draw(values).items()
    }
    if draw(st.booleans()):
        fields["image"] = '"own"'
    return PodTemplate("engine", fields, ("vllm",), tuple(draw(words)))


def a_pod(*args: str) -> PodTemplate:
    fields = {
        "nodeSelector/gpu": '"a100"',
        "nodeSelector/zone": '"x"',
        "limits/nvidia.com/gpu": '"1"',
        "image": '"vllm:1"',
    }
    return PodTemplate("engine", fields, (), args)


def test_what_the_old_template_set_goes_and_what_the_new_one_sets_comes() -> None:
    pod = a_pod("--model=m", "--max-num-seqs", "32", "--gpu_memory_utilization=0.9", "--port=80")
    after, displaced = moved(pod, A100.slots(OLD), MI300.slots(NEW), {})
    assert after.args == (
        "--model=m",
        "--tensor-parallel-size=2",
        "--gpu-memory-utilization=0.8",
        "--port=80",
    )
    assert "nodeSelector/gpu" not in after.fields
    assert after.fields["nodeSelector/zone"] == '"x"'
    assert after.fields["limits/amd.com/gpu"] == '"2"'
    assert json.loads(after.fields["env/MAX_RUNNING"]) == {"name": "MAX_RUNNING", "value": "64"}
    assert displaced == {"image": '"vllm:1"'}


def test_the_batch_is_said_in_the_form_that_the_template_has() -> None:
    apart = AcceleratorTemplate(separate=True)
    after, _ = moved(
        a_pod("--max-num-seqs=32", "-v"),
        A100.slots(OLD),
        apart.slots(Place("A100", 48, 8)),
        {},
        separate=True,
    )
    assert after.args == ("--max-num-seqs", "48", "-v")


def test_arguments_that_stand_in_the_command_are_changed_there() -> None:
    pod = PodTemplate("engine", {}, ("vllm", "serve", "--max-num-seqs=32", "m"), ())
    after, _ = moved(pod, A100.slots(OLD), A100.slots(Place("A100", 64, 8)), {})
    assert "--max-num-seqs=64" in after.command
    assert after.args == ()


def test_an_argument_without_value_leaves_the_word_after_it() -> None:
    eager = AcceleratorTemplate(arguments={"enforce-eager": ""})
    pod = a_pod("--enforce-eager", "model", "--max-num-seqs=32")
    after, _ = moved(pod, eager.slots(OLD), A100.slots(OLD), {})
    assert after.args == ("--gpu-memory-utilization=0.9", "--max-num-seqs=32", "model")


def test_a_shell_and_an_unknown_container_are_not_edited() -> None:
    assert "shell" in why_not_editable(PodTemplate("engine", {}, ("/bin/sh", "-c"), ("vllm",)))
    assert "container" in why_not_editable(PodTemplate("", {}, (), ()))
    assert why_not_editable(a_pod()) == ""


def settled(pod: PodTemplate, template: AcceleratorTemplate) -> tuple[PodTemplate, dict[str, str]]:
    """The pod as it stands once `template` was applied to it."""
    after, displaced = moved(pod, {}, template.slots(OLD), {}, separate=template.separate)
    return after, dict(displaced)


def said(pod: PodTemplate, *given: AcceleratorTemplate) -> tuple[object, ...]:
    """What the command line says: its own words in order, and each flag that a template names."""
    flags = {name for each in given for name in (*each.arguments, "max-num-seqs")}
    words = (*pod.command, *pod.args)
    own = rewritten(words, flags, {}, separate=False)
    return own, {flag: value_of(words, flag) for flag in flags}


def test_there_and_back_again_gives_the_same_words() -> None:
    pod = a_pod("--model=m", "--max-num-seqs=32", "--port=80")
    bare = AcceleratorTemplate(node_selector={"gpu": "a100"})
    there, displaced = moved(pod, bare.slots(OLD), MI300.slots(NEW), {})
    back, kept = moved(there, MI300.slots(NEW), bare.slots(OLD), displaced)
    assert set(back.args) == set(pod.args)
    assert {k: v for k, v in back.fields.items() if "annotation" not in k} == pod.fields
    assert kept == {}


@given(pods(), templates, templates)
def test_there_and_back_again_gives_the_original(
    pod: PodTemplate, one: AcceleratorTemplate, other: AcceleratorTemplate
) -> None:
    before, kept = settled(pod, one)
    there, displaced = moved(
        before, one.slots(OLD), other.slots(NEW), kept, separate=other.separate
    )
    back, kept_again = moved(
        there, other.slots(NEW), one.slots(OLD), displaced, separate=one.separate
    )
    assert back.fields == before.fields
    assert kept_again == kept
    assert said(back, one, other) == said(before, one, other)


@given(pods(), templates, templates)
def test_whatever_no_template_names_stays_as_it_was(
    pod: PodTemplate, one: AcceleratorTemplate, other: AcceleratorTemplate
) -> None:
    before, kept = settled(pod, one)
    after, _ = moved(before, one.slots(OLD), other.slots(NEW), kept, separate=other.separate)
    owned = {*one.slots(OLD), *other.slots(NEW)}
    assert {k: v for k, v in after.fields.items() if k not in owned} == {
        k: v for k, v in pod.fields.items() if k not in owned
    }
    for word in ("serve", "--model=m", "-v"):
        assert after.args.count(word) == pod.args.count(word)


@given(pods(), templates)
def test_a_move_to_where_it_is_changes_nothing(pod: PodTemplate, one: AcceleratorTemplate) -> None:
    before, kept = settled(pod, one)
    again, _ = moved(before, one.slots(OLD), one.slots(OLD), kept, separate=one.separate)
    assert again == before
