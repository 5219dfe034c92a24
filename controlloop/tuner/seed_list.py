"""A list of models and accelerators to make first parameters for, read from JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from controlloop.api.reading import UnknownKeys, read_json
from controlloop.api.spec_types import CountOrOne, Form, Name, PositiveCount, Unique
from controlloop.errors import InputError, Problem


class ListedModel(Form):
    """A model to seed."""

    name: Name = Field(description="Name of the model in the model data, without unit.")
    path: Name = Field(
        description="Id that the estimator ships, or a folder with config.json, relative to the"
        " list; without unit."
    )


class ListedAccelerator(Form):
    """An accelerator to seed on."""

    name: Name = Field(description="Name of the accelerator in the model data, without unit.")
    system: Name = Field(description="The estimator's name of its cards, without unit.")
    multiplicity: CountOrOne = Field(1, description="Cards of the accelerator, a count.")
    acc_count: CountOrOne = Field(
        1, alias="accCount", description="Accelerators of one replica, a count."
    )


class SeedList(Form):
    """Every model is tried on every accelerator, in this order.

    An accelerator may be listed again with a greater accCount, for models that are too large.
    """

    models: Annotated[tuple[ListedModel, ...], Unique(("name",))] = Field(
        description="The models, a list."
    )
    accelerators: Annotated[tuple[ListedAccelerator, ...], Unique(("name", "accCount"))] = Field(
        description="The accelerators, a list."
    )
    max_batch_size: PositiveCount = Field(
        128, alias="maxBatchSize", description="Requests in service at most, a count."
    )
    at_tokens: PositiveCount = Field(
        512, alias="atTokens", description="Output tokens that maxBatchSize is meant for, a count."
    )
    least_batch_size: PositiveCount = Field(
        8, alias="leastBatchSize", description="Pairs with room for fewer are left out, a count."
    )


def read_seed_list(path: Path) -> SeedList:
    """The list at `path`, model folders resolved.

    Raises:
        InputError: it cannot be read, or everything that is wrong with it.

    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError([Problem("", f"cannot be read: {error.strerror}")], str(path)) from error
    found = read_json(SeedList, text, unknown=UnknownKeys.REJECT, source=str(path))
    models = tuple(
        each.model_copy(update={"path": str(path.parent / each.path)})
        if (path.parent / each.path).is_dir()
        else each
        for each in found.models
    )
    return found.model_copy(update={"models": models})
