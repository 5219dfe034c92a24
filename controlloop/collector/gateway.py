"""Arrivals as a gateway in front of the servers counted them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from controlloop.api.observation import Workload
from controlloop.api.readings import Missing, Present, Reading, Stale
from controlloop.collector.aggregate import Window
from controlloop.collector.flow import all_times, count
from controlloop.collector.memory import WorkloadKey, workload_key
from controlloop.collector.options import GatewayOptions
from controlloop.collector.series import Series

Parts = dict[WorkloadKey, list[tuple[float, float]]]
"""For each workload, what each endpoint of the gateway gave: requests/s, time of last sample."""


def gateway_rates(
    series: Sequence[Series],
    options: GatewayOptions,
    workloads: Sequence[Workload],
    window: Window,
    kinship: Mapping[WorkloadKey, WorkloadKey] = MappingProxyType({}),
) -> dict[WorkloadKey, Reading]:
    """The arrival rate of each workload, requests/s.

    A series belongs to the workload whose Deployment it names together with the namespace, else
    to the one whose server it names. Endpoints of the gateway are added up. A series that
    appears later than others of its endpoint was made by its first request, so before it there
    was none.

    Args:
        series: what the gateway counted.
        options: how its labels are called.
        workloads: who may own them.
        window: the time that is looked at.
        kinship: whose sibling a Deployment is: what names the one counts for the other.

    """
    by_server = {workload.server: workload_key(workload) for workload in workloads}
    managed = {workload_key(workload) for workload in workloads}
    endpoints: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        if one.times:
            endpoints.setdefault((one.label("job"), one.label("instance")), []).append(one)
    parts: Parts = {}
    for endpoint in endpoints.values():
        owned: dict[WorkloadKey, list[Series]] = {}
        for one in endpoint:
            name = one.label(options.server_label)
            deployment = (one.label(options.namespace_label), name)
            deployment = kinship.get(deployment, deployment)
            owner = deployment if deployment in managed else by_server.get(name)
            if owner is not None:
                owned.setdefault(owner, []).append(one)
        _count_endpoint(endpoint, owned, parts)
    return {
        workload_key(workload): _reading(parts.get(workload_key(workload), []), window)
        for workload in workloads
    }


def _count_endpoint(
    endpoint: Sequence[Series], owned: dict[WorkloadKey, list[Series]], parts: Parts
) -> None:
    times = all_times(endpoint)
    if len(times) < 2:
        return
    span_s = times[-1] - times[0]
    for owner, counters in owned.items():
        last = max(one.times[-1] for one in counters)
        rate_rps = count(counters, times).total / span_s
        parts.setdefault(owner, []).append((rate_rps, last))


def _reading(found: Sequence[tuple[float, float]], window: Window) -> Reading:
    if not found:
        return Missing("the gateway's counter has no two samples for it in the window")
    # An endpoint that is gone still counted what came through it within the window.
    rate_rps = sum(rate for rate, _ in found)
    last = max(last for _, last in found)
    return (Present if window.is_fresh(last) else Stale)(rate_rps, window.age_s(last))
