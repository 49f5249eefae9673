"""Messages between front and engine, which carry numbers, names and paths; never text, never JSON-RPC.

Every message is a tagged msgspec struct. ``op`` numbers a control request of the front (load, unload, stats) and
comes back in its replies; ``seq`` numbers a sequence. Both are chosen by the front, start at 1 and are never reused.
Control requests and their replies are in ``control_messages``, ``adapter_messages`` and ``cache_messages``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .adapter_messages import AdapterLoaded, Adapters, AdapterUnloaded, LoadAdapter, QueryAdapters, UnloadAdapter
from .cache_messages import CacheCleared, CacheFigures, CacheMoved, ClearCache, ExportCache, ImportCache, QueryCache
from .control_messages import (
    EngineStats,
    Load,
    Loaded,
    Models,
    Pooling,
    Progress,
    QueryModels,
    QueryStats,
    Unload,
    Unloaded,
)
from .engine_config import Numerics
from .reasoning import ReasoningBudget

Priority = Literal["critical", "high", "normal", "low"]
# The lower, the more urgent.
RANKS: dict[Priority, int] = {"critical": 0, "high": 1, "normal": 2, "low": 3}
FinishReason = Literal["stop", "length", "cancelled", "deadline", "error"]


class Fault(msgspec.Struct, frozen=True):
    """A typed error on its way to the host: ``kind`` names a class of ``mlx_sidecar_protocol.errors``."""

    kind: str
    message: str
    details: dict[str, str | int | float] = {}


class Sampling(msgspec.Struct, frozen=True):
    """Sampling parameters with every default filled in. ``temperature`` 0 is greedy; ``top_k`` 0 is off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int = 0
    logprobs: int | None = None  # number of alternatives; 0: the chosen token's only; None: not asked for


class Constraint(msgspec.Struct, frozen=True):
    """The form that an answer must have: a ``grammar`` in a syntax of llguidance, which the front has validated.

    "" leaves the form free. ``end_tokens`` are those by which the model ends an answer. They are allowed where the
    answer is whole. ``budget`` bounds the reasoning, which the grammar, if there is one, allows as well. ``field`` is
    the parameter that asks for the grammar.
    """

    grammar: str
    end_tokens: list[int]
    budget: ReasoningBudget | None = None
    field: str = "response_format"


class Speculation(msgspec.Struct, frozen=True):
    """Where proposals come from: prompt lookup (``ngram``), and a resident model (``draft``).

    A step verifies at most ``max_tokens`` of them for a sequence; 0 leaves the number to the engine.
    """

    ngram: bool = True
    draft: str | None = None
    max_tokens: int = 0


# Front to engine.


class Vocabulary(msgspec.Struct, frozen=True, tag=True):
    """The bytes of all tokens of ``model``, sent before the first sequence of the model that has a constraint.

    ``data`` has them one after the other, ``ends`` the end of each (32 bits). ``special`` are packed ids of tokens that
    stand for no text.
    """

    model: str
    data: bytes
    ends: bytes
    special: bytes


class Generate(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: decode on from its tokens, and send ``Tokens`` as they come.

    ``explain``: tell in ``Finished`` where the prompt left the nearest known one.
    """

    sampling: Sampling
    stop_tokens: list[int]  # ends the sequence with reason "stop"; the stop token itself is not sent
    max_tokens: int  # of the whole answer: those emitted before count
    emitted: int = 0  # of the tokens of ``Submit``, the last ones that were generated before a restart
    explain: bool = False
    constraint: Constraint | None = None
    speculation: Speculation | None = None
    adapter: str | None = None  # by its name among those of the model


class Prefill(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: compute its tokens and send none. ``pin`` keeps them in the prefix cache.

    It ends with reason "length".
    """

    pin: bool


class Embed(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: one vector of the hidden states of its tokens, which ``Finished`` has.

    ``dimensions``: the first so many numbers. ``shared``: so many of the first tokens stand before other texts too, and
    may be cached. It ends with reason "length".
    """

    pooling: Pooling
    dimensions: int
    normalize: bool
    shared: int = 0


class Score(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: logits that tell how well a document answers a query, which ``Finished`` has.

    A cross-encoder is told at which token the document begins (``second``). A decoder is asked for the logits of
    ``labels`` behind the last token, of which the first ``shared`` may be cached. It ends with reason "length".
    """

    second: int = 0
    labels: list[int] = []
    shared: int = 0


Goal = Generate | Prefill | Embed | Score


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Pursue ``goal`` from ``tokens`` on, which are those of the prompt and of what was generated before a restart.

    A task that is submitted once more keeps its number. ``again``: an engine had accepted it before, so no queue is too
    long for it.
    """

    seq: int
    model: str
    tokens: list[int]
    goal: Goal
    priority: Priority = "normal"
    deadline_s: float | None = None  # from now
    again: bool = False


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """End a sequence; idempotent. A sequence that runs is answered ``Finished``; an unknown one not at all.

    ``reason`` is ``stop`` when the front found a stop string in the text.
    """

    seq: int
    reason: Literal["cancelled", "stop", "deadline"] = "cancelled"


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Keep a sequence without decoding it, because its stream's window is used up. Idempotent, like ``Resume``."""

    seq: int


class Resume(msgspec.Struct, frozen=True, tag=True):
    seq: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Leave at once. A closed link means the same."""


ToEngine = (
    Load
    | Unload
    | LoadAdapter
    | UnloadAdapter
    | QueryAdapters
    | Vocabulary
    | Submit
    | Cancel
    | Pause
    | Resume
    | QueryModels
    | QueryStats
    | QueryCache
    | ClearCache
    | ExportCache
    | ImportCache
    | Stop
)


# Engine to front.


class Ready(msgspec.Struct, frozen=True, tag=True):
    """First message of an engine: it has imported its backend and takes work.

    ``waiting_limit`` sequences of all models may wait together, ``running_limit`` of each model may run at once.
    """

    pid: int
    backend: str  # "cpu", "metal", "cuda" or "fake"
    device: str
    versions: dict[str, str]
    numerics: Numerics
    policy: str
    memory_limit_bytes: int
    waiting_limit: int
    running_limit: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The answer to a control request that failed; with ``op`` 0 the engine cannot serve at all, and exits."""

    op: int
    fault: Fault


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Natural log-probability of a token, and the likeliest tokens at its place with theirs, likeliest first.

    They are of the model's own distribution: before penalties, bias, temperature and filters.
    """

    logprob: float
    top: list[tuple[int, float]]


class Effort(msgspec.Struct, frozen=True, array_like=True):
    """How the tokens of one pass came about.

    The grammar ``forced`` some, and had some ``masked``: sampled again among the tokens that it allows. Of the
    ``proposed`` tokens that the pass verified, some were ``accepted``; forced ones do not count as proposed.
    """

    forced: int = 0
    masked: int = 0
    proposed: int = 0
    accepted: int = 0


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """New tokens of one sequence, in order, all of one pass; ``logprobs`` has one for each if they were asked for."""

    seq: int
    tokens: list[int]
    logprobs: list[TokenLogprob] | None = None
    effort: Effort | None = None  # where it is not all zeros


class Timing(msgspec.Struct, frozen=True):
    """Seconds of a sequence in the queue, in prefill until its first token, and in decoding until its end."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Nearest(msgspec.Struct, frozen=True):
    """The cached prompt that shares most tokens with a request's: the first ``common``.

    ``tokens`` are its own from token ``start`` to some way behind ``common``; none if it ends there.
    """

    common: int
    start: int
    tokens: list[int]


class Finished(msgspec.Struct, frozen=True, tag=True):
    """Last message of a sequence, after its last ``Tokens``. ``started`` is false if it never reached the device.

    ``cached_tokens`` of its tokens needed no prefill, ``cached_disk`` of these came from disk. ``uncacheable`` says why
    nothing of this model can be cached, "" where it can. ``pinned`` tokens stay for a ``Prefill`` that pins.
    ``stop_token`` is the one of its stop tokens that ended it. ``complete``: the answer has the whole form that its
    constraint asks for; None without one. ``vector`` is the result of the goals ``Embed`` and ``Score``: float32,
    little-endian.
    """

    seq: int
    reason: FinishReason
    started: bool
    timing: Timing
    cached_tokens: int = 0
    cached_disk: int = 0
    uncacheable: str = ""
    pinned: int = 0
    nearest: Nearest | None = None  # where it was asked for
    fault: Fault | None = None  # with reason "error"
    stop_token: int | None = None
    complete: bool | None = None
    vector: bytes = b""


class Dropped(msgspec.Struct, frozen=True, tag=True):
    """A step failed, and the caches of these sequences are gone; ``running`` are those that took part in the step.

    Nothing more is sent of them. The front, which has their journals, decides which of them to submit again.
    """

    seqs: list[int]
    running: list[int]
    fault: Fault


class Evicted(msgspec.Struct, frozen=True, tag=True):
    """A model was evicted for another one, or because its time to live was over."""

    model: str


Reply = (
    Loaded
    | Unloaded
    | AdapterLoaded
    | AdapterUnloaded
    | Adapters
    | Models
    | EngineStats
    | CacheFigures
    | CacheCleared
    | CacheMoved
)
"""Answers to control requests, which are answered ``Refused`` instead where they failed."""

ToFront = Ready | Progress | Reply | Refused | Tokens | Finished | Dropped | Evicted
