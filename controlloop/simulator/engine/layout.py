"""What the engines work on: records of requests and of replicas, and an engine's numbers.

Times are seconds on the simulated clock, lengths are tokens.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

# An array of records; numpy's own type says nothing of the fields.
Records = npt.NDArray[Any]

NOBODY: Final = -1
NEVER: Final = np.inf
# More tokens than any cache holds: no limit.
UNLIMITED: Final = 1 << 60


class Mapping(IntEnum):
    """How the parameters of a queue model become the time of an iteration; see `times`."""

    BESIDE = 0
    TOKENS = 1
    ROOFLINE = 2


class Router(IntEnum):
    """Who gets a request.

    ROUND_ROBIN: the replicas in turn. LEAST_LOADED: who has fewest requests, in turn among
    equals. POWER_OF_TWO: the less loaded of two at random.
    """

    ROUND_ROBIN = 0
    LEAST_LOADED = 1
    POWER_OF_TWO = 2


class State(IntEnum):
    """Of a replica's row: nobody there, takes requests, only finishes those it has."""

    EMPTY = 0
    SERVING = 1
    DRAINING = 2


class Numbers(NamedTuple):
    """One engine: its iteration's parameters in seconds, and its limits.

    Attributes:
        mapping: a `Mapping`, which says what the next six are.
        fixed_s: what every iteration takes at least.
        sequence_s: what each sequence adds.
        token_s: what each computed token adds.
        context_s: what each token in the cache that is read adds.
        prefill_s: BESIDE: a prompt at least.
        prompt_token_s: BESIDE: each of its tokens, by the sequences in service.
        in_service: BESIDE: sequences that count as in service always; 0 is those that are.
        request_s: added to every first token, outside the engine.
        stream_s: added to a first token for each sequence that decodes.
        max_batch: sequences in service at most.
        token_budget: tokens that an iteration computes at most.
        kv_tokens: tokens that the cache holds.

    """

    mapping: int
    fixed_s: float
    sequence_s: float
    token_s: float
    context_s: float
    prefill_s: float
    prompt_token_s: float
    in_service: int
    request_s: float
    stream_s: float
    max_batch: int
    token_budget: int
    kv_tokens: int


REQUEST: Final = np.dtype(
    [
        ("arrival_s", np.float64),
        ("input_tokens", np.int64),
        ("output_tokens", np.int64),
        ("replica", np.int64),  # the row that has it, NOBODY before it is routed or when lost
        ("admitted_s", np.float64),  # when it first got a place in the batch; NaN before
        ("first_s", np.float64),  # when its first token was computed; NaN before
        ("done_s", np.float64),  # when its last one was; NaN before
        ("outside_s", np.float64),  # what the way to the client adds to its first token
        ("emitted", np.int64),  # output tokens before its present stay in the batch
        ("left", np.int64),  # prompt tokens still to compute, recomputed answers included
        ("due_s", np.float64),  # BESIDE: when its prompt is done
        ("stopped_s", np.float64),  # its last token before a preemption
        ("preemptions", np.int64),
        ("behind", np.int64),  # the next one in the queue
        ("refused", np.bool_),  # its prompt does not fit into the cache at all
    ]
)


class Counts(NamedTuple):
    """What an engine's metrics count.

    Attributes:
        arrived: requests.
        completed: requests.
        refused: requests whose prompts are longer than the cache.
        preemptions: of requests, each as often as it was preempted.
        first_tokens: requests with one.
        ttft_s: times to first token, when each came.
        gaps: between two tokens of a request.
        gaps_s: their lengths.
        input_tokens: of completed requests.
        output_tokens: of completed requests.
        queued_s: times in the queue, when each first token came.
        stayed_s: from arrival to last token, of completed requests.
        busy_s: time in iterations.
        itl_s: the mean gap of each completed request.
        done_ttft_s: the time to first token of each completed request.

    """

    arrived: float
    completed: float
    refused: float
    preemptions: float
    first_tokens: float
    ttft_s: float
    gaps: float
    gaps_s: float
    input_tokens: float
    output_tokens: float
    queued_s: float
    stayed_s: float
    busy_s: float
    itl_s: float
    done_ttft_s: float


COUNTS: Final = np.dtype([(name, np.float64) for name in Counts._fields])

REPLICA: Final = np.dtype(
    [
        ("state", np.int64),
        ("started_s", np.float64),
        ("begun_s", np.float64),  # the iteration under way
        ("ends_s", np.float64),  # NEVER without one
        ("timer_s", np.float64),  # BESIDE: the next prompt that is done; NEVER without one
        ("iteration", np.int64),  # those completed
        ("next_end", np.int64),  # the iteration that next completes a request
        ("running", np.int64),
        ("decoding", np.int64),  # the first of the running; the rest compute prompts
        ("late", np.int64),  # BESIDE: those that joined too late for the iteration under way
        ("resident", np.int64),  # tokens in the cache of those that decode
        ("held", np.int64),  # and of those that compute prompts
        ("head", np.int64),
        ("tail", np.int64),
        ("waiting", np.int64),
        ("empty_s", np.float64),  # since when it has had no request; NEVER with one
        ("chance", np.uint64),
        ("counts", COUNTS),  # last; see `server`
    ]
)

# What chance and turn the router has come to.
ROUTING: Final = np.dtype([("turn", np.int64), ("chance", np.uint64)])

# A replica as its router sees it: requests that it has, and when it next changes.
GLANCE: Final = np.dtype([("due_s", np.float64), ("load", np.int64)])
