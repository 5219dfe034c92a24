"""Questions to a queue model as JSON documents, each with its answer or its error."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field, create_model

from controlloop.api.reading import UnknownKeys, read
from controlloop.api.replicas import Analysis, Replicas, SizingStatus, Targets
from controlloop.api.spec_types import Count, Form, Number, Quantity, WholeNumber
from controlloop.errors import InputError, Problem
from controlloop.protocols import QueueModel
from controlloop.queueing.models import QUEUE_PER_BATCH
from controlloop.queueing.service import MAX_BATCH

ANALYSIS_KEYS: Final = (
    "throughput_rps",
    "response_ms",
    "wait_ms",
    "in_service",
    "prefill_ms",
    "itl_ms",
    "max_rate_rps",
    "utilization",
)
RATE_TOO_HIGH: Final = "rate above the maximum"
UNREACHABLE: Final = "target unreachable"
NO_SERVICE_TIME: Final = "a request takes no time with these tokens and parameters, or too much"

_FAILURES: Final[Mapping[int, str]] = MappingProxyType(
    {
        SizingStatus.TTFT_UNREACHABLE: UNREACHABLE,
        SizingStatus.ITL_UNREACHABLE: UNREACHABLE,
        SizingStatus.NOT_CONVERGED: "the search for the rate did not converge",
        SizingStatus.INVALID: NO_SERVICE_TIME,
    }
)


_Batch = Annotated[WholeNumber, Field(ge=1, le=MAX_BATCH)]
_Tokens = Annotated[Number, Field(gt=0)]


class Question(Form):
    """What is asked of one replica; a model's parameters stand beside these keys."""

    max_batch: _Batch = Field(description="Requests in service at most.")
    max_queue: Count | None = Field(
        None, description=f"Requests waiting at most; missing is {QUEUE_PER_BATCH} batches."
    )
    input_tokens: Quantity = Field(description="Mean input tokens of a request.")
    output_tokens: _Tokens = Field(description="Mean output tokens of a request.")
    rate_rps: Quantity | None = Field(None, description="Arrivals, in requests/s.")
    target_ttft_ms: Quantity = Field(0.0, description="Most mean time to first token, in ms.")
    target_itl_ms: Quantity = Field(0.0, description="Most mean time between tokens, in ms.")
    target_tps: Quantity = Field(0.0, description="Output tokens to sustain, in tokens/s.")


Answer = dict[str, Any]


def analyze_documents(documents: Sequence[object], model: QueueModel) -> list[Answer]:
    """The state of one replica at each document's `rate_rps`, in order.

    Args:
        documents: what a JSON parser gives for each; see `Question` for the keys.
        model: whose parameters they carry.

    Returns:
        For each the keys `ANALYSIS_KEYS`, or `error`: bad values with key, rule and value, or
        why there is no answer.

    """
    answers, asked = _read(documents, model, needs_rate=True)
    rate = np.array([each.rate_rps for each in asked.values()], dtype=np.float64)
    analysis = model.analyze(_replicas(asked.values(), model), rate)
    for row, place in enumerate(asked):
        if np.isnan(analysis.max_rate_rps[row]):
            answers[place] = _error(NO_SERVICE_TIME)
        elif rate[row] > analysis.max_rate_rps[row]:
            answers[place] = _error(RATE_TOO_HIGH)
        else:
            answers[place] = _state(analysis, row)
    return answers


def size_documents(documents: Sequence[object], model: QueueModel) -> list[Answer]:
    """The largest rates of one replica within each document's targets, in order.

    Args:
        documents: what a JSON parser gives for each; see `Question` for the keys.
        model: whose parameters they carry.

    Returns:
        For each the rates that TTFT, ITL and TPS allow, and the analysis at the least of them,
        or `error` as in `analyze_documents`.

    """
    answers, asked = _read(documents, model, needs_rate=False)
    wanted = [(each.target_itl_ms, each.target_ttft_ms, each.target_tps) for each in asked.values()]
    columns = np.array(wanted, dtype=np.float64).reshape(-1, 3).T
    sizing = model.size(_replicas(asked.values(), model), Targets(*columns))
    for row, place in enumerate(asked):
        status = SizingStatus(int(sizing.status[row]))
        if status is not SizingStatus.OK:
            answers[place] = _error(_FAILURES[status])
            continue
        answers[place] = {
            "rate_ttft_rps": float(sizing.rate_ttft_rps[row]),
            "rate_itl_rps": float(sizing.rate_itl_rps[row]),
            "rate_tps_rps": float(sizing.rate_tps_rps[row]),
            "at": _state(sizing.at, row),
        }
    return answers


def _read(
    documents: Sequence[object], model: QueueModel, *, needs_rate: bool
) -> tuple[list[Answer], dict[int, Question]]:
    """An answer for every document, with an error in those that cannot be read; the others."""
    form = _form(model.parameter_names)
    answers: list[Answer] = [{} for _ in documents]
    asked: dict[int, Question] = {}
    for place, document in enumerate(documents):
        try:
            question = read(form, document, unknown=UnknownKeys.REJECT)
        except InputError as error:
            answers[place] = _error("; ".join(str(problem) for problem in error.problems))
            continue
        if needs_rate and question.rate_rps is None:
            answers[place] = _error(str(Problem("rate_rps", "is required")))
            continue
        asked[place] = question
    return answers, asked


@cache
def _form(parameter_names: tuple[str, ...]) -> type[Question]:
    fields: dict[str, Any] = dict.fromkeys(parameter_names, (Quantity, ...))
    return create_model("ModelQuestion", __base__=Question, **fields)


def _replicas(questions: Collection[Question], model: QueueModel) -> Replicas:
    batch = np.array([each.max_batch for each in questions], dtype=np.int64)
    queue = [
        QUEUE_PER_BATCH * each.max_batch if each.max_queue is None else each.max_queue
        for each in questions
    ]
    names = model.parameter_names
    parameters = [[getattr(each, name) for name in names] for each in questions]
    return Replicas(
        max_batch=batch,
        max_queue=np.array(queue, dtype=np.int64),
        input_tokens=np.array([each.input_tokens for each in questions], dtype=np.float64),
        output_tokens=np.array([each.output_tokens for each in questions], dtype=np.float64),
        parameters=np.array(parameters, dtype=np.float64).reshape(len(questions), len(names)),
    )


def _state(analysis: Analysis, row: int) -> Answer:
    return {key: float(getattr(analysis, key)[row]) for key in ANALYSIS_KEYS}


def _error(text: str) -> Answer:
    return {"error": text}
