"""A fluid model of one replica of an inference server.

Requests are a fluid: they arrive at the rate of the load and leave at the rate of the
state-dependent queueing model, mu(n) = m / s(m), m = min(n, max_batch), where
s(m) = gamma + delta*input*m + (output - 1)*(alpha + beta*m). Beyond the greatest rate the
queue grows without bound, first come first served, so that the time to first token lags by
the whole queue as that of a real server does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_STEP_S = 0.25
STEPS_PER_SERVICE = 4
MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Service:
    """How fast a replica really is: decode alpha, beta and prefill gamma, delta, in ms."""

    alpha_ms: float = 8.0
    beta_ms: float = 0.2
    gamma_ms: float = 5.0
    delta_ms: float = 0.005

    def prefill_s(self, load: Load, running: float) -> float:
        """Time of the prompt with `running` requests in the batch."""
        if load.input_tokens == 0:
            return 0.0
        return (self.gamma_ms + self.delta_ms * load.input_tokens * running) / MS_PER_S

    def itl_s(self, running: float) -> float:
        """Time between two output tokens with `running` requests in the batch."""
        return (self.alpha_ms + self.beta_ms * running) / MS_PER_S

    def service_s(self, load: Load, running: float) -> float:
        """Time in service of one request with `running` requests in the batch."""
        return self.prefill_s(load, running) + (load.output_tokens - 1) * self.itl_s(running)

    def greatest_rate_rps(self, load: Load, max_batch: int) -> float:
        """The rate at which a full batch completes; more than that makes the queue grow."""
        return max_batch / self.service_s(load, max_batch)


@dataclass(frozen=True, slots=True)
class Load:
    """What all replicas of a server get together.

    A request that waits longer than `patience_s` gives up; vLLM counts it nowhere.
    """

    rate_rps: float = 0.0
    input_tokens: float = 128.0
    output_tokens: float = 64.0
    patience_s: float = float("inf")


class Histogram:
    """Cumulative buckets, count and sum; a fraction of an event waits until it is whole."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self._carry = 0.0

    @property
    def count(self) -> int:
        """Whole events seen."""
        return sum(self.counts)

    def observe(self, value: float, events: float) -> None:
        """See `events` of them at `value`."""
        self._carry += events
        whole = int(self._carry)
        if whole:
            self._carry -= whole
            self.counts[bisect_left(self.bounds, value)] += whole
            self.sum += whole * value


SECONDS_BOUNDS = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480)
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
ITL_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
TOKEN_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)


class FluidReplica:
    """One replica. `advance` first, then change its rate or read what it counts."""

    def __init__(self, service: Service, max_batch: int, now: float) -> None:
        self.service = service
        self.max_batch = max_batch
        self.started_at = now
        self.load = Load()
        self.ttft = Histogram(TTFT_BOUNDS)
        self.itl = Histogram(ITL_BOUNDS)
        self.queue_time = Histogram(SECONDS_BOUNDS)
        self.response = Histogram(SECONDS_BOUNDS)
        self.prompt_tokens = Histogram(TOKEN_BOUNDS)
        self.generated_tokens = Histogram(TOKEN_BOUNDS)
        self.prompt_tokens_total = 0.0
        self.generated_tokens_total = 0.0
        self._now = now
        self._arrived = self._completed = self._given_up = 0.0
        self._arrivals: deque[tuple[float, float]] = deque([(now, 0.0)])

    @property
    def completed(self) -> int:
        """Requests done."""
        return int(self._completed)

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return min(self._present, self.max_batch)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._present - self.running

    @property
    def _present(self) -> int:
        return max(int(self._arrived) - int(self._completed) - int(self._given_up), 0)

    def advance(self, now: float) -> None:
        """Live until `now` under the load that is set; seconds of any clock."""
        while self._now < now:
            present = self._arrived - self._completed - self._given_up
            batch = min(max(present, 1.0), self.max_batch)
            service_s = self.service.service_s(self.load, batch)
            step_s = min(now - self._now, LONGEST_STEP_S, service_s / STEPS_PER_SERVICE)
            self._step(step_s, present, batch, service_s)
            if now - self._now < 1e-9:
                self._now = now

    def _step(self, step_s: float, present: float, batch: float, service_s: float) -> None:
        load = self.load
        head_before = self._arrived - max(present - self.max_batch, 0.0)
        done = min(present, float(self.max_batch)) / service_s * step_s
        self._now += step_s
        self._arrived += load.rate_rps * step_s
        self._completed += done
        self._arrivals.append((self._now, self._arrived))
        present += load.rate_rps * step_s - done
        head = self._arrived - max(present - self.max_batch, 0.0)
        wait_s = self._now - self._time_of_arrival(head)
        prefill_s, itl_s = self.service.prefill_s(load, batch), self.service.itl_s(batch)

        admitted = max(head - head_before, 0.0)
        self.queue_time.observe(wait_s, admitted)
        self.ttft.observe(wait_s + prefill_s, admitted)
        self.prompt_tokens_total += admitted * load.input_tokens
        self.itl.observe(itl_s, done * (load.output_tokens - 1))
        self.generated_tokens_total += done * load.output_tokens
        self.response.observe(wait_s + service_s, done)
        self.prompt_tokens.observe(load.input_tokens, done)
        self.generated_tokens.observe(load.output_tokens, done)

        if wait_s > load.patience_s:
            oldest_that_stays = self._arrived_until(self._now - load.patience_s)
            self._given_up += max(oldest_that_stays - head, 0.0)

    def _time_of_arrival(self, position: float) -> float:
        """When the request at `position` in the order of arrival came; forgets older ones."""
        while len(self._arrivals) > 1 and self._arrivals[1][1] <= position:
            self._arrivals.popleft()
        (time, count), (next_time, next_count) = self._arrivals[0], self._arrivals[-1]
        if len(self._arrivals) == 1 or position <= count:
            return time
        next_time, next_count = self._arrivals[1]
        return time + (next_time - time) * (position - count) / (next_count - count)

    def _arrived_until(self, time: float) -> float:
        until = self._arrivals[0][1]
        for when, count in self._arrivals:
            if when > time:
                break
            until = count
        return until
