"""What crosses the link between front and engine: numbers, names and paths; never text, never JSON-RPC.

Every message is a tagged msgspec struct. ``op`` numbers a control request of the front (load, unload, stats) and
comes back in its replies; ``seq`` numbers a sequence. Both are chosen by the front, start at 1 and are never reused.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .engine_config import Numerics

Priority = Literal["critical", "high", "normal", "low"]
# The lower, the more urgent.
RANKS: dict[Priority, int] = {"critical": 0, "high": 1, "normal": 2, "low": 3}
# Sequences that may wait on an engine, as it is started: a list of prompts, which the front holds as well.
WAITING_LIMIT = 1024
Dtype = Literal["float32", "float16", "bfloat16"]
FinishReason = Literal["stop", "length", "cancelled", "deadline", "error"]
ForwardName = Literal["flat", "merged", "row_by_row"]


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
    logprobs: int | None = None  # how many alternatives; 0: the chosen token's only; None: not asked


class ModelCard(msgspec.Struct, frozen=True):
    """A model the engine holds. ``state`` is loading or ready; ``last_used_s`` is seconds since its last request."""

    model: str
    state: Literal["loading", "ready"]
    path: str
    architecture: str = ""
    parameters: int = 0
    dtype: str = ""
    quantization: str | None = None
    context_length: int = 0
    vocabulary: int = 0
    memory_bytes: int = 0
    last_used_s: float = 0.0
    pinned: bool = False
    streams: int = 0
    policy: str = ""  # how its arithmetic is done, e.g. "openblas float32" or "metal as stored"
    forward: ForwardName | Literal[""] = ""  # how the rows of a step are run; the fake engine has none


# Front to engine.


class Load(msgspec.Struct, frozen=True, tag=True):
    """Make ``model`` resident from directory ``path``. Loading what is loaded answers its card.

    A model that is resident from another path or dtype is refused (``invalid_params``), never swapped in silence.
    """

    op: int
    model: str
    path: str
    dtype: Dtype | None = None  # None: the backend's policy decides
    adapter: str | None = None
    pin: bool = False
    ttl_s: float | None = None


class Unload(msgspec.Struct, frozen=True, tag=True):
    """Drop ``model``. With running sequences: ``model_in_use``, or with ``force`` they end as ``error``."""

    op: int
    model: str
    force: bool = False


class Generate(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: decode on from its tokens, and send ``Tokens`` as they come.

    ``explain``: tell in ``Finished`` where the prompt left the nearest known one.
    """

    sampling: Sampling
    stop_tokens: list[int]  # ends the sequence with reason "stop"; the stop token itself is not sent
    max_tokens: int  # of the whole answer: those emitted before count
    emitted: int = 0  # of the tokens of ``Submit``, the last ones that were generated before a restart
    explain: bool = False


class Prefill(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: compute its tokens and send none. ``pin`` keeps them in the prefix cache.

    It ends with reason "length".
    """

    pin: bool


Goal = Generate | Prefill


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Pursue ``goal`` from ``tokens`` on, which are those of the prompt and of what was generated before a restart.

    What is submitted once more keeps the number it had. ``again``: an engine had accepted it before, so no queue is
    too long for it.
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
    """The host has no window left: keep the sequence where it is and do not decode it. Idempotent, like ``Resume``."""

    seq: int


class Resume(msgspec.Struct, frozen=True, tag=True):
    seq: int


class QueryModels(msgspec.Struct, frozen=True, tag=True):
    op: int


class QueryStats(msgspec.Struct, frozen=True, tag=True):
    op: int


class QueryCache(msgspec.Struct, frozen=True, tag=True):
    op: int


class ClearCache(msgspec.Struct, frozen=True, tag=True):
    """Forget the blocks of ``model``, or of all models, pinned ones too, and those on disk unless told otherwise."""

    op: int
    model: str | None = None
    disk: bool = True


class ExportCache(msgspec.Struct, frozen=True, tag=True):
    """Write what is known of ``tokens``, from the first on, to the file ``path``."""

    op: int
    model: str
    tokens: list[int]
    path: str


class ImportCache(msgspec.Struct, frozen=True, tag=True):
    """Take in a file that ``ExportCache`` wrote, here or elsewhere."""

    op: int
    model: str
    path: str


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Leave at once. A closed link means the same."""


ToEngine = (
    Load
    | Unload
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


class Progress(msgspec.Struct, frozen=True, tag=True):
    op: int
    stage: str  # "reading" | "building" | "converting" | "trying"
    done_bytes: int
    total_bytes: int


class Loaded(msgspec.Struct, frozen=True, tag=True):
    op: int
    card: ModelCard
    load_s: float  # 0 when it was resident


class Unloaded(msgspec.Struct, frozen=True, tag=True):
    op: int
    freed_bytes: int


class Models(msgspec.Struct, frozen=True, tag=True):
    op: int
    models: list[ModelCard]


class EngineStats(msgspec.Struct, frozen=True, tag=True):
    """Totals since the engine started; ages in seconds. Histograms: upper bounds in seconds and counts."""

    op: int
    counters: dict[str, int]
    gauges: dict[str, float]
    histograms: dict[str, list[tuple[float, int]]]
    last_device_operation_s: float | None  # age; None before the first


class CachedModel(msgspec.Struct, frozen=True):
    """What is cached of a model. ``identity`` names weights, adapter, arithmetic and geometry; ``because`` says why the
    model's caches cannot be kept, "" where they can."""

    model: str
    identity: str
    because: str = ""


class CacheFigures(msgspec.Struct, frozen=True, tag=True):
    """Sizes in bytes; counters are totals since the engine started. ``disk_state`` is "off", "on" or "failed".

    ``nodes`` are the blocks that the index knows in either tier, ``ram_blocks`` and ``disk_blocks`` those in each.
    """

    op: int
    block_tokens: int
    models: list[CachedModel]
    ram_limit_bytes: int = 0
    ram_bytes: int = 0
    pinned_bytes: int = 0
    ram_blocks: int = 0
    nodes: int = 0
    index_bytes: int = 0
    disk_state: Literal["off", "on", "failed"] = "off"
    disk_because: str = ""  # with "failed"
    disk_path: str = ""
    disk_limit_bytes: int = 0
    disk_bytes: int = 0
    disk_blocks: int = 0
    disk_files: int = 0
    disk_pending_bytes: int = 0  # still to be written
    counters: dict[str, int] = {}


class CacheCleared(msgspec.Struct, frozen=True, tag=True):
    op: int
    ram_bytes: int
    disk_bytes: int


class CacheMoved(msgspec.Struct, frozen=True, tag=True):
    """An export or import is done: ``tokens`` of a conversation, ``nbytes`` of a file."""

    op: int
    tokens: int
    nbytes: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The answer to an ``op`` that cannot be done."""

    op: int
    fault: Fault


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Natural log-probability of a token, and the likeliest tokens at its place with theirs, likeliest first.

    Of the model's own distribution: before penalties, bias, temperature and filters.
    """

    logprob: float
    top: list[tuple[int, float]]


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """New tokens of one sequence, in order; ``logprobs`` one for each where they were asked for."""

    seq: int
    tokens: list[int]
    logprobs: list[TokenLogprob] | None = None


class Timing(msgspec.Struct, frozen=True):
    """Seconds. ``queue_s`` until its prefill began, then ``prefill_s`` until its first token, then ``decode_s``."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Nearest(msgspec.Struct, frozen=True):
    """The known prompt that has most tokens in common with one: the first ``common``.

    ``tokens`` are its own, from number ``start`` to some way behind ``common``; none where it goes no further.
    """

    common: int
    start: int
    tokens: list[int]


class Finished(msgspec.Struct, frozen=True, tag=True):
    """Last message of a sequence, after its last ``Tokens``. ``started`` is false if it never reached the device.

    ``cached_tokens`` of its tokens needed no prefill, ``cached_disk`` of these came from disk. ``uncacheable`` says why
    nothing of this model can be cached, "" where it can. ``pinned`` tokens stay for a ``Prefill`` that pins.
    ``stop_token`` is the one of its stop tokens that ended it.
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


class Dropped(msgspec.Struct, frozen=True, tag=True):
    """A step failed, and what the device held of these sequences is gone. Nothing more comes of them; the front, which
    has their journals, decides which of them to submit again.

    ``running`` are those that took part in the step.
    """

    seqs: list[int]
    running: list[int]
    fault: Fault


class Evicted(msgspec.Struct, frozen=True, tag=True):
    """A model went to make room, or because its time to live was over."""

    model: str


ToFront = (
    Ready
    | Progress
    | Loaded
    | Unloaded
    | Models
    | EngineStats
    | CacheFigures
    | CacheCleared
    | CacheMoved
    | Refused
    | Tokens
    | Finished
    | Dropped
    | Evicted
)
