"""Builds what makes another accelerator real from its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from controlloop.actuator.switching import SwitchOptions
from controlloop.actuator.templates import AcceleratorTemplate, BatchForm, Templates
from controlloop.api.specs_template import TemplateSpec
from controlloop.optimizer.needs import replicas_needed
from controlloop.optimizer.planner import Planner
from controlloop.protocols import Optimizer, Policy, Source
from controlloop.runtime_controller.source import CustomResourceSource
from controlloop.settings.templates import TemplateSettings
from controlloop.settings.tree import Settings
from controlloop.stability.mix_choice import MixOptions
from controlloop.stability.mixing import MixingPolicy
from controlloop.stability.moving import MoveOptions, MovingPolicy
from controlloop.stability.windows import UNLIMITED

LiveTemplates = Callable[[], Templates]
BATCH_ARGUMENTS: Final = {"vllm": "max-num-seqs", "sglang": "max-running-requests"}
"""In which argument each engine is told its maximum batch."""


def templates_of(settings: Settings) -> Templates:
    """The templates by accelerator."""
    return {name: _template(each) for name, each in settings.actuator.templates.items()}


def switch_options(settings: Settings) -> SwitchOptions:
    """How switches are made."""
    chosen = settings.actuator
    return SwitchOptions(
        startup_s=chosen.switch_startup_s,
        startup_factor=chosen.switch_startup_factor,
        backoff_s=chosen.switch_backoff_s,
    )


def live_templates(settings: Settings, source: Source) -> LiveTemplates | None:
    """Gives the templates in force: the objects' before the settings'; None: only the latter."""
    if not (settings.actuator.object_templates and isinstance(source, CustomResourceSource)):
        return None
    given = templates_of(settings)

    def in_force() -> Templates:
        return {**given, **{name: _of_object(each) for name, each in source.templates.items()}}

    return in_force


def with_moves(
    settings: Settings, policy: Policy, optimizer: Optimizer, live: LiveTemplates | None = None
) -> Policy:
    """The policy; where there are templates, or may be some day, it lets servers move."""
    chosen = settings.actuator
    if not chosen.templates and live is None:
        return policy
    options = MoveOptions(
        accelerators=frozenset(chosen.templates),
        margin=chosen.switch_margin,
        cycles=chosen.switch_cycles,
        unlimited=settings.optimizer.solver == UNLIMITED,
        batches=chosen.switch_batches,
    )
    return MovingPolicy(policy, options, optimizer.solve, live)


def with_mixes(
    settings: Settings, policy: Policy, planner: Planner, live: LiveTemplates | None = None
) -> Policy:
    """The policy; where siblings are on, it lets servers run on several accelerators at once."""
    chosen = settings.actuator
    if not chosen.siblings or not (chosen.templates or live is not None):
        return policy
    options = MixOptions(
        accelerators=frozenset(chosen.templates),
        margin=chosen.switch_margin,
        cycles=chosen.switch_cycles,
        unlimited=settings.optimizer.solver == UNLIMITED,
        batches=chosen.switch_batches,
        even=chosen.sibling_spread == "even",
        startup_s=chosen.switch_startup_s,
        backoff_s=chosen.switch_backoff_s,
        down_window_s=settings.stability.down_window_s,
        written=chosen.mode == "apply",
    )
    return MixingPolicy(policy, options, planner.mixes, replicas_needed, live)


def _of_object(spec: TemplateSpec) -> AcceleratorTemplate:
    tolerations = tuple(each.document() for each in spec.tolerations)
    return _template(TemplateSettings(**{**spec.model_dump(), "tolerations": tolerations}))


def _template(given: TemplateSettings) -> AcceleratorTemplate:
    return AcceleratorTemplate(
        node_selector=given.node_selector,
        tolerations=given.tolerations,
        limits=given.limits,
        requests=given.requests,
        runtime_class=given.runtime_class,
        image=given.image,
        arguments=given.arguments,
        environment=given.environment,
        batch_name=given.batch_name or BATCH_ARGUMENTS[given.engine],
        batch_form=BatchForm(given.batch_form),
        separate=given.separate,
    )
