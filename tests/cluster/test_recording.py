"""A recorded overload of a real vLLM, served by a real Prometheus, as the collector sees it."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from testbed.prometheus import Prometheus

from controlloop.api.holds import HoldReason
from controlloop.api.node_cards import CountedCards
from controlloop.api.observation import Pod, ServerObservation, Workload, WorkloadRef
from controlloop.api.readings import Missing, Present, Stale
from controlloop.api.replicas import FloatArray
from controlloop.clock import Deadline, SystemClock
from controlloop.collector.options import CollectorOptions
from controlloop.collector.prometheus import PrometheusSource
from controlloop.collector.rate_history import PrometheusHistory
from controlloop.collector.sensor import FleetSensor

START = 1_700_000_000.0
WINDOW_S = 60.0
PERIOD_S = 2.5
"""Not in step with the scrapes, as a daemon's cycles are not."""


class _OneDeployment:
    """The Kubernetes side: one Deployment with the pod whose metrics were recorded."""

    def workloads(self, timeout_s: float) -> tuple[Workload, ...]:
        pod = Pod("tiny-5d8f7c-abcde", uid="1", ready_since=0.0)
        ref = WorkloadRef("inference", "tiny")
        return (Workload(ref, "tiny", "tiny", "Free", "CPU", 16, 1, pods=(pod,)),)

    def workload(self, *_: object) -> Workload:
        raise NotImplementedError

    def capacity(self, *_: object) -> CountedCards:
        raise NotImplementedError

    def patch(self, *_: object, **__: object) -> None:
        raise NotImplementedError

    def annotate(self, *_: object) -> None:
        raise NotImplementedError

    def record(self, *_: object) -> None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A daemon's view of the recording, and what the clients sent meanwhile; times from 0."""

    source: PrometheusSource
    sensor: FleetSensor
    scrapes: FloatArray
    sent: FloatArray

    def look(self, at: float) -> ServerObservation:
        (server,) = self.sensor.observe(START + at, Deadline(SystemClock(), 60.0)).servers
        return server

    def span(self, at: float) -> tuple[float, float]:
        inside = self.scrapes[(self.scrapes > at - WINDOW_S) & (self.scrapes <= at)]
        return float(inside[0]), float(inside[-1])

    def arrivals(self, first: float, last: float) -> int:
        return int(((self.sent > first) & (self.sent <= last)).sum())

    @property
    def cycles(self) -> FloatArray:
        return np.arange(WINDOW_S + 1.3, self.scrapes[-1] + 2.0, PERIOD_S)


@pytest.fixture
def recorded(
    new_prometheus: Callable[[], Prometheus], shared_data: Callable[[str], Path]
) -> _Recorded:
    recording = shared_data("vllm-recordings/overload.jsonl.gz")
    requests = shared_data("vllm-recordings/overload-requests.csv.gz")
    prometheus = new_prometheus()
    labels = {"namespace": "inference", "pod": "tiny-5d8f7c-abcde"}
    prometheus.load_recording(recording, labels, START)
    prometheus.start()
    with gzip.open(recording, "rt") as lines:
        scrapes = np.array([json.loads(line)["t"] for line in lines])
    with gzip.open(requests, "rt") as rows:
        sent = np.array([float(row["arrival_s"]) for row in csv.DictReader(rows)])
    source = PrometheusSource(prometheus.url)
    return _Recorded(source, FleetSensor(_OneDeployment(), source), scrapes, sent)


def test_arrivals_are_right_in_every_window_also_in_overload(recorded: _Recorded) -> None:
    wrong, worst_of_completions = [], 1.0
    for at in recorded.cycles:
        first, last = recorded.span(at)
        truth = recorded.arrivals(first, last)
        signals = recorded.look(at).signals
        rate, completions = signals.arrival_rate_rps, signals.completion_rate_rps
        assert isinstance(rate, Present)
        assert isinstance(completions, Present)
        assert rate.age_s == pytest.approx(at - last, abs=0.002)
        counted = rate.value * (last - first)
        if abs(counted - truth) > max(0.05 * truth, 3.0):
            wrong.append((at, counted, truth))
        if truth > 0:
            worst_of_completions = max(
                worst_of_completions, truth / (completions.value * (last - first))
            )
    assert wrong == []
    assert len(recorded.cycles) > 190
    # Who counts completions would think the load a fifth of what it is.
    assert worst_of_completions > 5.0


def test_an_overload_forbids_a_decrease_until_its_queue_is_gone(recorded: _Recorded) -> None:
    def waiting(at: float) -> bool:
        return HoldReason.REQUESTS_WAITING in {hold.reason for hold in recorded.look(at).holds}

    assert not waiting(150.0)
    assert all(waiting(at) for at in np.arange(185.0, 550.0, 20.0))
    assert not waiting(556.0)


def test_lengths_and_latencies_are_those_the_clients_saw(recorded: _Recorded) -> None:
    signals = recorded.look(90.0).signals
    assert isinstance(signals.input_tokens, Present)
    assert isinstance(signals.output_tokens, Present)
    assert isinstance(signals.ttft_ms, Present)
    assert isinstance(signals.itl_ms, Present)
    assert 100 < signals.input_tokens.value < 200
    assert 100 < signals.output_tokens.value < 150
    assert 5 < signals.ttft_ms.value < 60
    assert 1 < signals.itl_ms.value < 10


def test_a_recording_that_ended_grows_stale_and_then_missing(recorded: _Recorded) -> None:
    end = float(recorded.scrapes[-1])
    assert isinstance(recorded.look(end + 44).signals.waiting, Present)
    stale = recorded.look(end + 50)
    assert isinstance(stale.signals.arrival_rate_rps, Stale)
    assert stale.signals.arrival_rate_rps.age_s == pytest.approx(50, abs=0.01)
    assert HoldReason.SIGNAL_STALE in {hold.reason for hold in stale.holds}
    gone = recorded.look(end + 70)
    assert isinstance(gone.signals.arrival_rate_rps, Missing)
    assert HoldReason.INERT in {hold.reason for hold in gone.holds}


def test_of_the_past_arrivals_are_known_too_also_in_overload(recorded: _Recorded) -> None:
    history = PrometheusHistory(recorded.source, CollectorOptions(), SystemClock())
    slots = int(recorded.scrapes[-1] // WINDOW_S)
    workloads = _OneDeployment().workloads(1.0)
    found = history.rates_rps(START + slots * WINDOW_S, workloads, slots, WINDOW_S)["tiny"]
    ends = WINDOW_S * np.arange(1, slots + 1)
    truth = np.array([recorded.arrivals(end - WINDOW_S, end) for end in ends]) / WINDOW_S
    assert found == pytest.approx(truth, rel=0.1, abs=0.5)
