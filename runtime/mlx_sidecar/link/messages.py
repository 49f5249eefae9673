"""Messages between front and engine, which carry numbers, names and paths; never text, never JSON-RPC.

Every message is a tagged msgspec struct. ``op`` numbers a control request of the front (load, unload, stats) and
comes back in its replies; ``seq`` numbers a sequence. Both are chosen by the front, start at 1 and are never reused.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Priority = Literal["critical", "high", "normal", "low"]
# The lower, the more urgent.
RANKS: dict[Priority, int] = {"critical": 0, "high": 1, "normal": 2, "low": 3}
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
    logprobs: int | None = None  # number of alternatives; 0: the chosen token's only; None: not asked for


class ModelCard(msgspec.Struct, frozen=True):
    """A model that is resident or loading; ``last_used_s`` is in seconds since its last request."""

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
    policy: str = ""  # library and number format of its arithmetic, e.g. "openblas float32" or "metal as stored"
    forward: ForwardName | Literal[""] = ""  # "" for the fake engine


# Front to engine.


class Load(msgspec.Struct, frozen=True, tag=True):
    """Make ``model`` resident from directory ``path``; answered by ``Loaded``, at once if it is resident already.

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
    """Drop ``model``. If it has running sequences, they end with an error under ``force``, else ``model_in_use``."""

    op: int
    model: str
    force: bool = False


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Decode from ``tokens``. ``emitted`` counts those at their end that were generated before (a restart's replay).

    A replay keeps the number it had. ``again``: an engine had accepted it before, so no queue is too long for it.
    ``warm``: compute the prompt and pin it in the cache; the one token that comes of it is nobody's. ``explain``: tell
    in ``Finished`` where the prompt left the nearest known one.
    """

    seq: int
    model: str
    tokens: list[int]
    sampling: Sampling
    max_tokens: int  # of the whole answer: those emitted before count
    stop_tokens: list[int]  # ends the sequence with reason "stop"; the stop token itself is not sent
    emitted: int = 0
    priority: Priority = "normal"
    deadline_s: float | None = None  # from now
    again: bool = False
    warm: bool = False
    explain: bool = False


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


class QueryModels(msgspec.Struct, frozen=True, tag=True):
    op: int


class QueryStats(msgspec.Struct, frozen=True, tag=True):
    op: int


class QueryCache(msgspec.Struct, frozen=True, tag=True):
    op: int


class ClearCache(msgspec.Struct, frozen=True, tag=True):
    """Forget the blocks of ``model``, or of all models, pinned ones too, and with ``disk`` those on disk."""

    op: int
    model: str | None = None
    disk: bool = True


class ExportCache(msgspec.Struct, frozen=True, tag=True):
    """Write the cached part of ``tokens``, from the first on, to the file ``path``; answered by ``CacheMoved``."""

    op: int
    model: str
    tokens: list[int]
    path: str


class ImportCache(msgspec.Struct, frozen=True, tag=True):
    """Read a file of ``ExportCache`` into the cache; answered by ``CacheMoved``."""

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
    """First message of an engine: it has imported its backend and takes work."""

    pid: int
    backend: str  # "cpu", "metal", "cuda" or "fake"
    device: str
    versions: dict[str, str]
    numerics: Literal["fast", "exact"]
    policy: str
    memory_limit_bytes: int


class Progress(msgspec.Struct, frozen=True, tag=True):
    """The progress of a load."""

    op: int
    stage: str  # "reading" | "building" | "converting" | "trying"
    done_bytes: int
    total_bytes: int


class Loaded(msgspec.Struct, frozen=True, tag=True):
    op: int
    card: ModelCard
    load_s: float  # 0 if it was resident


class Unloaded(msgspec.Struct, frozen=True, tag=True):
    op: int
    freed_bytes: int


class Models(msgspec.Struct, frozen=True, tag=True):
    op: int
    models: list[ModelCard]


class EngineStats(msgspec.Struct, frozen=True, tag=True):
    """Counters, gauges and histograms since the engine started. A histogram is a list of (upper bound, count)."""

    op: int
    counters: dict[str, int]
    gauges: dict[str, float]
    histograms: dict[str, list[tuple[float, int]]]
    last_device_operation_s: float | None  # age; None before the first


class CachedModel(msgspec.Struct, frozen=True):
    """A model in the prefix cache; ``identity`` names weights, adapter, arithmetic and geometry.

    ``because`` is the reason if prompts of the model cannot be cached, else "".
    """

    model: str
    identity: str
    because: str = ""


class CacheFigures(msgspec.Struct, frozen=True, tag=True):
    """The state of the prefix cache; counters are totals since the engine started.

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
    disk_because: str = ""  # the reason of "failed"
    disk_path: str = ""
    disk_limit_bytes: int = 0
    disk_bytes: int = 0
    disk_blocks: int = 0
    disk_files: int = 0
    disk_pending_bytes: int = 0  # still to be written
    counters: dict[str, int] = {}


class CacheCleared(msgspec.Struct, frozen=True, tag=True):
    """The bytes that were freed in each tier."""

    op: int
    ram_bytes: int
    disk_bytes: int


class CacheMoved(msgspec.Struct, frozen=True, tag=True):
    """An export or import is done, of ``tokens`` tokens in a file of ``nbytes`` bytes."""

    op: int
    tokens: int
    nbytes: int


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


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """New tokens of one sequence, in order; ``logprobs`` has one for each if they were asked for."""

    seq: int
    tokens: list[int]
    logprobs: list[TokenLogprob] | None = None


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
    nothing of this model can be cached, "" where it can. ``pinned`` tokens stay for a ``warm`` one. ``stop_token`` is
    the one of its stop tokens that ended it.
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
    """A step failed, and the caches of these sequences are gone; ``running`` are those that took part in the step.

    Nothing more is sent of them. The front, which has their journals, decides which of them to submit again.
    """

    seqs: list[int]
    running: list[int]
    fault: Fault


class Evicted(msgspec.Struct, frozen=True, tag=True):
    """A model was evicted for another one, or because its time to live was over."""

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
