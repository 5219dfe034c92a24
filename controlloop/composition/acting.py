"""Builds what makes decisions real, and what holds it back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from controlloop.actuator.maintenance import MaintenanceSwitch
from controlloop.actuator.options import ActuatorOptions, Mode
from controlloop.composition.switching import switch_options, templates_of
from controlloop.daemon.troubles import WriteEvent
from controlloop.kube.lease import Lease
from controlloop.settings.rules import LEASE_MARGIN_S
from controlloop.settings.tree import Settings

MOST_FOR_AN_EVENT_S: Final = 2.0


class NoLease:
    """The guard of one who needs no leave: a dry run, or a lease switched off."""

    def remaining_s(self) -> float:
        """No end."""
        return float("inf")


def build_maintenance(settings: Settings, lease: Lease | None) -> MaintenanceSwitch:
    """The switch that stops all writes: the Lease's annotation, a file, or both."""
    named = settings.actuator.maintenance_file
    file = Path(named) if named else None
    return (
        MaintenanceSwitch(file=file)
        if lease is None
        else MaintenanceSwitch(lease.maintenance, file)
    )


def event_writer(settings: Settings, lease: Lease | None) -> WriteEvent | None:
    """What writes an event of the whole loop on the Lease; None where there is no Lease."""
    if lease is None or not settings.actuator.events:
        return None
    timeout_s = min(settings.actuator.write_timeout_s, MOST_FOR_AN_EVENT_S)
    return lambda reason, message: lease.tell(reason, message, timeout_s)


def actuator_options(settings: Settings) -> ActuatorOptions:
    """The actuator's options in these settings."""
    return ActuatorOptions(
        mode=Mode(settings.actuator.mode),
        concurrency=settings.actuator.concurrency,
        write_timeout_s=settings.actuator.write_timeout_s,
        lease_margin_s=LEASE_MARGIN_S,
        events=settings.actuator.events,
        conditions=settings.actuator.conditions,
        templates=templates_of(settings),
        switch=switch_options(settings),
    )
