"""Scales a plant by the same plans that scale a cluster."""

from __future__ import annotations

from controlloop.actuator.diff import plan as plan_of
from controlloop.api.decision import Decisions, Outcome, Patch, PatchOutcome, PatchStatus, Plan
from controlloop.api.observation import Observation
from controlloop.clock import Deadline
from controlloop.errors import ControlLoopError
from controlloop.simulator.plant import Plant


class PlantActuator:
    """Implements `protocols.Actuator` on a plant; nothing but replicas can be changed there."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def plan(self, decisions: Decisions, observation: Observation) -> Plan:
        """The pure difference between what is decided and what is."""
        return plan_of(decisions, observation)

    def apply(self, plan: Plan, deadline: Deadline) -> Outcome:
        """Ask the plant for each patch's replicas, in the plan's order."""
        return Outcome(tuple(self._send(patch, deadline) for patch in plan.patches))

    def _send(self, patch: Patch, deadline: Deadline) -> PatchOutcome:
        try:
            deadline.timeout_s(1.0, f"scaling {patch.ref}")
            self._plant.scale(patch.ref, patch.replicas)
        except ControlLoopError as error:
            return PatchOutcome(patch, PatchStatus.FAILED, str(error))
        return PatchOutcome(patch, PatchStatus.APPLIED)
