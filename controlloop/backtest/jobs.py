"""The unit of work: one policy at one value of its knob on one case, from data to numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from controlloop.backtest.building import build
from controlloop.backtest.case import Case
from controlloop.backtest.metrics import document, measure
from controlloop.backtest.plants import plant_of
from controlloop.backtest.policies import Policy, Stage, named_policies
from controlloop.backtest.run import Run, drive
from controlloop.backtest.series import series_document, series_of
from controlloop.composition.loop import demo_engine
from controlloop.queueing.models import queue_models
from controlloop.settings.tree import Settings

# A result: metrics, and with `Job.pictured` the series of the run, as JSON.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One run; `pictured` keeps its series too. Equal jobs give equal rows.

    `settings_digest` tells apart what the policy's name does not: see `settings_digest_of`.
    """

    case: Case
    policy: str
    knob: float
    pictured: bool = False
    settings_digest: str = ""

    @property
    def key(self) -> str:
        """What names it in a results file: a trace by its content, wherever it lies."""
        fields = asdict(self)
        if self.case.trace_digest:
            fields["case"]["trace"] = self.case.trace_name
        return json.dumps(fields, sort_keys=True)


def settings_digest_of(policy: Policy) -> str:
    """SHA-256 of what settings the policy has at any knob; "" where it has none.

    The variants of the loop lay the arguments bound to their builder over the default settings.
    """
    if not isinstance(policy.build, partial):
        return ""
    laid_over = json.dumps(policy.build.args, default=dict, sort_keys=True)
    defaults = json.dumps(Settings().model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(f"{laid_over}\n{defaults}".encode()).hexdigest()


def perform(job: Job) -> Row:
    """Run it. A function of the module, so that other processes and machines can be sent it.

    Raises:
        ControlLoopError: the case or the policy cannot be built.

    """
    run = perform_run(job)
    row: dict[str, Any] = dict(document(measure(run)))
    if job.pictured:
        row["series"] = series_document(series_of(run))
    return row


def perform_run(job: Job) -> Run:
    """The same, as arrays."""
    model_of = queue_models().create
    (policy,) = named_policies([job.policy])
    scenario = build(job.case, model_of)
    judged = plant_of(scenario, model_of, policy.step_s)
    stage = Stage(
        plant=judged.plant,
        scenario=scenario,
        training=lambda: build(job.case.training, model_of),
        engine_of=demo_engine,
    )
    return drive(judged, policy.build(stage, job.knob), scenario)
