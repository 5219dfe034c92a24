"""First parameters of pairs of model and accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controlloop.api.system import PerfParameters
from controlloop.errors import InputError, Problem
from controlloop.tuner.seed import (
    FROM_KERNELS,
    FROM_LIMITS,
    Seed,
    StepSource,
    batch_at,
    sample,
    seed_other,
    seed_roofline,
)
from controlloop.tuner.seed_list import SeedList
from controlloop.tuner.seed_source import Basis, SeedError, Target
from controlloop.tuner.sweep_fit import RunModel


class OpenedSource(StepSource, Protocol):
    """Engine steps of one target, and what they rest on."""

    @property
    def basis(self) -> Basis:
        """Measured kernels, or the limits of the cards."""
        ...


class Source(Protocol):
    """Where engine steps come from; see `seed_source.KernelDatabase`."""

    @property
    def package(self) -> str:
        """Name and version, to be named as the source."""
        ...

    def problems_of(self, target: Target) -> list[Problem]:
        """What is wrong with a target."""
        ...

    def open(self, target: Target) -> OpenedSource:
        """Steps of a target."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A model on an accelerator, as the model data is to name them.

    Attributes:
        model: name of the model.
        accelerator: name of the accelerator.
        accelerators_per_replica: of them, for one replica.
        target: what the estimator is asked about.
        most_batch: requests in service at most.
        at_tokens: output tokens that the batch is meant for.

    """

    model: str
    accelerator: str
    accelerators_per_replica: int
    target: Target
    most_batch: int
    at_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class SeededPair:
    """First parameters of one pair.

    Attributes:
        pair: of which pair.
        package: where the estimates come from.
        basis: what they rest on.
        room_tokens: tokens that the KV cache of a replica holds.
        max_batch: requests in service at most at `pair.at_tokens`.
        seeds: by queue model.

    """

    pair: Pair
    package: str
    basis: Basis
    room_tokens: float
    max_batch: int
    seeds: Mapping[str, Seed]

    def perf(self, queue_model: str) -> PerfParameters:
        """The entry of the model data, for one of the queue models."""
        values = self.seeds[queue_model].values
        return PerfParameters(
            model=self.pair.model,
            accelerator=self.pair.accelerator,
            parameters=tuple(values.values()),
            max_batch=self.max_batch,
            at_tokens=self.pair.at_tokens,
            accelerators_per_replica=self.pair.accelerators_per_replica,
            queue_model=queue_model,
            parameter_names=tuple(values),
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A pair that got no parameters, and why."""

    pair: Pair
    reason: str


def seed_pair(source: Source, pair: Pair, models: Sequence[RunModel]) -> SeededPair:
    """First parameters of one pair, for `roofline` and each of `models`.

    Raises:
        InputError: the target is wrong.
        SeedError: the estimator has no answer for it.

    """
    steps = source.open(pair.target)
    error = FROM_KERNELS if steps.basis is Basis.KERNELS else FROM_LIMITS
    samples = sample(steps)
    batch = batch_at(samples.room_tokens, pair.at_tokens, pair.most_batch)
    if batch < 1:
        raise SeedError(f"{pair.target}: the KV cache has no room for one request")
    roofline = seed_roofline(samples, error)
    seeds = {roofline.queue_model: roofline}
    for model in models:
        if model.name not in seeds:
            seeds[model.name] = seed_other(model, roofline, error, batch)
    return SeededPair(pair, source.package, steps.basis, samples.room_tokens, batch, seeds)


def seed_list(
    source: Source,
    listed: SeedList,
    models: Sequence[RunModel],
    engine: str,
    about: Callable[[Pair], None],
) -> Iterator[SeededPair | LeftOut]:
    """First parameters of each model on each accelerator of a list.

    Of entries that repeat an accelerator the first on which a model has room counts.

    Args:
        source: the estimates.
        listed: the list.
        models: queue models beside `roofline`.
        engine: the inference engine.
        about: called before each pair.

    Raises:
        InputError: every target that is wrong, before any work.

    """
    pairs = _pairs(listed, engine)
    problems = {str(each): each for pair in pairs for each in source.problems_of(pair.target)}
    if problems:
        raise InputError(problems.values())
    done: set[tuple[str, str]] = set()
    for pair in pairs:
        if (pair.model, pair.accelerator) in done:
            continue
        about(pair)
        try:
            found = seed_pair(source, pair, models)
        except SeedError as error:
            yield LeftOut(pair, str(error))
            continue
        if found.max_batch < listed.least_batch_size:
            yield LeftOut(pair, f"{pair.target}: room for {found.max_batch} requests only")
            continue
        done.add((pair.model, pair.accelerator))
        yield found


def _pairs(listed: SeedList, engine: str) -> list[Pair]:
    return [
        Pair(
            model=model.name,
            accelerator=card.name,
            accelerators_per_replica=card.acc_count,
            target=Target(model.path, card.system, card.multiplicity * card.acc_count, engine),
            most_batch=listed.max_batch_size,
            at_tokens=listed.at_tokens,
        )
        for model in listed.models
        for card in listed.accelerators
    ]
