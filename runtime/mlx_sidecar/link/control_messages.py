"""Control requests of the front about models and statistics, and the engine's replies."""

from __future__ import annotations

from typing import Literal

import msgspec

Dtype = Literal["float32", "float16", "bfloat16"]
ForwardName = Literal["native", "flat", "merged", "row_by_row"]
# On which parameters and methods depend.
Capability = Literal[
    "prefix_cache", "response_format", "speculation", "draft", "adapter", "generate", "embed", "rerank"
]
Pooling = Literal["mean", "cls", "last", "max"]


class EmbeddingCard(msgspec.Struct, frozen=True):
    """How a model embeds texts: the numbers of a vector, and the tokens of a text at most.

    ``pooling``: None where its files do not say. ``instructs``: texts stand behind "Instruct: …", as of Qwen3.
    ``prompts``: by name, texts that stand before others.
    """

    dimensions: int
    max_tokens: int
    pooling: Pooling | None = None
    normalize: bool = True
    instructs: bool = False
    prompts: dict[str, str] = {}


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
    not_native: str = ""  # why native code does not compute it, where it might
    embedding: EmbeddingCard | None = None  # where it has the capability
    capabilities: dict[Capability, str] = {}  # why the model lacks each; "" where it has it

    def lacks(self, capability: Capability) -> str:
        """Why the model lacks ``capability``; "" where it has it, or where that is not known."""
        return self.capabilities.get(capability, "")


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


class QueryModels(msgspec.Struct, frozen=True, tag=True):
    op: int


class QueryStats(msgspec.Struct, frozen=True, tag=True):
    op: int


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
