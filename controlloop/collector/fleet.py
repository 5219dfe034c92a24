"""The fleet's raw series: one query a signal, whatever the number of servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlloop.clock import Deadline
from controlloop.collector.dialects import Signal, Vocabulary
from controlloop.collector.options import CollectorOptions
from controlloop.collector.series import (
    Endpoint,
    MetricSource,
    MetricsUnavailableError,
    Series,
)
from controlloop.errors import MetricsError

PodKey = tuple[str, str]
"""Namespace and name of a pod."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The series of one signal by pod and endpoint; `problem` says why there is no answer."""

    pods: Mapping[PodKey, Mapping[str, Endpoint]]
    problem: str | None = None

    def endpoints(self, pod: PodKey) -> Mapping[str, Endpoint]:
        """The endpoints of a pod, none where it shows nothing."""
        return self.pods.get(pod, {})


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """All that the metric source told in one cycle.

    `gateway` holds the series of the gateway's counter, None where none is configured or it
    could not be read, which `gateway_problem` then says. `unnamed` counts series that lack the
    labels of a namespace and a pod.
    """

    answers: Mapping[Signal, Answer]
    gateway: tuple[Series, ...] | None = None
    gateway_problem: str | None = None
    unnamed: int = 0

    @property
    def problem(self) -> str | None:
        """The first of the reasons for which a query has no answer; None: all have one."""
        problems = [answer.problem for answer in self.answers.values()]
        return next((one for one in (*problems, self.gateway_problem) if one), None)

    def pods(self) -> set[PodKey]:
        """Every pod of which any signal has a series."""
        return {pod for answer in self.answers.values() for pod in answer.pods}


def selectors(words: Vocabulary, options: CollectorOptions) -> dict[Signal, str]:
    """The range selector of each signal, for the whole fleet."""
    return {
        signal: selector_of(words.metrics(signal), options, options.window_s) for signal in Signal
    }


def gateway_selector(options: CollectorOptions) -> str | None:
    """The range selector of the gateway's counter, None where there is no gateway."""
    gateway = options.gateway
    return None if gateway is None else f"{gateway.selector}[{_range(options.window_s)}]"


def ask(
    source: MetricSource,
    words: Vocabulary,
    options: CollectorOptions,
    now: float,
    deadline: Deadline,
) -> Fleet:
    """Ask for every signal. A query without an answer is a problem in the result, not an error.

    After a query that was not answered at all the others are not sent: a source that hangs
    must not eat the cycle's time query by query.
    """
    begun_with_s = deadline.remaining_s()
    budget_s = min(options.metrics_timeout_s, begun_with_s / 2)
    silent: str | None = None

    def select(selector: str) -> tuple[tuple[Series, ...], str | None]:
        nonlocal silent
        left_s = budget_s - (begun_with_s - deadline.remaining_s())
        if silent is None and left_s <= 0:
            silent = "the time for queries is up"
        if silent is not None:
            return (), silent
        try:
            return source.select(selector, now, min(options.query_timeout_s, left_s)), None
        except MetricsUnavailableError as error:
            silent = str(error)
            return (), silent
        except MetricsError as error:
            return (), str(error)

    found = {signal: select(query) for signal, query in selectors(words, options).items()}
    query = gateway_selector(options)
    gateway, gateway_problem = (None, None) if query is None else select(query)
    grouped = {signal: _by_pod(series, options) for signal, (series, _) in found.items()}
    return Fleet(
        {signal: Answer(pods, found[signal][1]) for signal, (pods, _) in grouped.items()},
        None if gateway_problem else gateway,
        gateway_problem,
        sum(unnamed for _, unnamed in grouped.values()),
    )


def _by_pod(
    series: Iterable[Series], options: CollectorOptions
) -> tuple[dict[PodKey, dict[str, Endpoint]], int]:
    """The series by pod and endpoint, and how many name no pod."""
    namespace_label, pod_label = options.namespace_label, options.pod_label
    scraped: dict[tuple[str, str, str, str], dict[str, list[Series]]] = {}
    unnamed = 0
    for one in series:
        said = one.labels.get
        pod = said(pod_label, "")
        if not pod:
            unnamed += 1
            continue
        key = said(namespace_label, ""), pod, said("instance", ""), said("job", "")
        shown = scraped.get(key)
        if shown is None:
            shown = scraped[key] = {}
        shown.setdefault(said("__name__", ""), []).append(one)
    jobs: dict[PodKey, dict[str, dict[str, Endpoint]]] = {}
    for (namespace, pod, instance, job), shown in scraped.items():
        jobs.setdefault((namespace, pod), {}).setdefault(instance, {})[job] = shown
    pods = {
        pod: {instance: _one_job(by_job) for instance, by_job in endpoints.items()}
        for pod, endpoints in jobs.items()
    }
    return pods, unnamed


def _one_job(by_job: Mapping[str, Endpoint]) -> Endpoint:
    """An endpoint that two jobs scrape is still one: its requests count once."""
    if len(by_job) == 1:
        return next(iter(by_job.values()))
    longest = {
        job: max(len(one.times) for shown in endpoint.values() for one in shown)
        for job, endpoint in by_job.items()
    }
    return by_job[max(sorted(by_job), key=longest.__getitem__)]


def selector_of(names: Iterable[str], options: CollectorOptions, window_s: float) -> str:
    """The range selector of some metrics over the last `window_s`, for the whole fleet."""
    wanted = list(dict.fromkeys(names))
    matchers = _matchers(options)
    if len(wanted) == 1:
        inner = f"{wanted[0]}{{{','.join(matchers)}}}" if matchers else wanted[0]
    else:
        inner = f"{{{','.join([_one_of('__name__', wanted), *matchers])}}}"
    return f"{inner}[{_range(window_s)}]"


def _range(window_s: float) -> str:
    return f"{round(window_s * 1000)}ms"


def _matchers(options: CollectorOptions) -> list[str]:
    own = [options.matchers] if options.matchers else []
    if not options.namespaces:
        return own
    return [_one_of(options.namespace_label, options.namespaces), *own]


def _one_of(label: str, values: Iterable[str]) -> str:
    # The pattern is written within a string of PromQL, where a backslash stands doubled.
    pattern = "|".join(re.escape(value).replace("\\", "\\\\") for value in values)
    return f'{label}=~"{pattern}"'
