"""The mlx backend loads models from their directories to the device, and gives their memory back."""

from __future__ import annotations

import gc
import platform
from collections.abc import Generator
from typing import cast

import mlx.core as mx

from mlx_sidecar_protocol.errors import EngineLost, ModelLoadFailed

from ... import __version__
from ...checkpoint.model_directory import Directory, inspect
from ...link.control_messages import Dtype, Load, ModelCard
from ..cache.identity import identity
from ..cache.prefix_cache import PrefixCache
from ..core.oom_backoff import out_of_memory
from ..resident_models import LoadedModel, LoadStep
from . import mlxlm
from .backend_policy import Policy
from .forward import Forward
from .loader import Weights, load_steps
from .mlx_batch import MlxBatch
from .probe import Probed, probe_steps
from .trial import Passes

# Of what is left to the rest of the machine, which is a quarter of the limit.
_CACHE_SHARE = 16


class MlxBackend:
    """Used by the step loop's thread only, because mlx binds streams, and lazy arrays with them, to threads."""

    def __init__(
        self,
        policy: Policy,
        limit_bytes: int,
        prefix_cache: PrefixCache | None = None,
        *,
        trust_remote_code: bool = False,
    ) -> None:
        """Use at most ``limit_bytes`` for weights and caches; freed buffers that mlx keeps for reuse come on top.

        Computed prompts go to ``prefix_cache``.
        """
        mx.set_cache_limit(limit_bytes // _CACHE_SHARE)
        self._policy = policy
        self._limit_bytes = limit_bytes
        self._prefix_cache = prefix_cache
        self._trust = trust_remote_code
        self._estimated: tuple[Load, Directory] | None = None  # headers are read once for both
        self.name = policy.backend
        self.device = policy.device
        self.policy = policy.words
        self.versions = {
            "mlx_sidecar": __version__,
            "mlx": str(vars(mx)["__version__"]),  # its stubs leave it out
            "mlx_lm": mlxlm.VERSION,
            "python": platform.python_version(),
        }

    def prove(self) -> None:
        square = mx.arange(16, dtype=mx.float32).reshape(4, 4)
        try:
            traced = mx.trace(square @ square).item()
        except (RuntimeError, ValueError) as error:
            raise EngineLost(f"{self.device} cannot multiply two small matrices: {error}") from error
        if traced != 1060:
            raise EngineLost(f"{self.device} multiplies two small matrices wrongly")

    def estimate(self, load: Load) -> int:
        directory = self._inspected(load)
        self._estimated = load, directory
        return directory.loaded_bytes(self._dtype(load))

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        before, self._estimated = self._estimated, None
        directory = before[1] if before is not None and before[0] == load else self._inspected(load)
        dtype = self._dtype(load)
        weights = yield from load_steps(load, directory, dtype, trust_remote_code=self._trust)
        try:
            cost, vocabulary, forward = yield from _in_load(
                probe_steps(load.model, weights.model), weights.memory_bytes
            )
        except (ValueError, RuntimeError) as error:
            if out_of_memory(error, 0) is not None:  # which says nothing of the model
                raise
            raise ModelLoadFailed(load.model, f"its first token failed: {error}") from error
        prefixes = None
        if self._prefix_cache is not None and not forward.uncacheable:
            prefixes = self._prefix_cache.prefixes(self._identity(weights, forward), forward.spec)
        because = "" if prefixes is not None else forward.uncacheable or "the cache is switched off"
        card = ModelCard(
            model=load.model,
            state="ready",
            path=load.path,
            architecture=weights.architecture,
            parameters=weights.parameters,
            dtype=weights.dtype,
            quantization=None if directory.quantization is None else directory.quantization.words,
            context_length=directory.context_length,
            vocabulary=vocabulary,
            memory_bytes=weights.memory_bytes,
            policy=self._policy.words_for(dtype),
            forward=forward.name,
            capabilities={"prefix_cache": because},
        )
        batch = MlxBatch(forward, vocabulary, self._limit_bytes, prefixes)
        return LoadedModel(card, batch, cost, prefixes)

    def _identity(self, weights: Weights, forward: Forward) -> str:
        """Name policy and version of mlx too, because the last bits of keys and values may depend on them."""
        arithmetic = (self.name, self._policy.products, self._policy.numerics, weights.dtype)
        versions = (self.versions["mlx"], self.versions["mlx_lm"])
        return identity(weights.fingerprint, *arithmetic, *versions, type(forward).__name__)

    def _inspected(self, load: Load) -> Directory:
        return inspect(load.model, load.path, trust_remote_code=self._trust)

    def reclaim(self) -> None:
        gc.collect()  # modules refer to each other
        mx.clear_cache()

    def gauges(self) -> dict[str, float]:
        return {
            "active_bytes": float(mx.get_active_memory()),
            "cache_bytes": float(mx.get_cache_memory()),
            "peak_bytes": float(mx.get_peak_memory()),
        }

    def _dtype(self, load: Load) -> Dtype | None:
        return load.dtype or self._policy.default_dtype


def _in_load(passes: Passes[Probed], loaded_bytes: int) -> Generator[LoadStep, None, Probed]:
    """Run ``passes`` as steps of a load, because where half precision is slow they take long, and others decode."""
    while True:
        try:
            next(passes)
        except StopIteration as done:
            return cast("Probed", done.value)
        yield LoadStep("trying", loaded_bytes, loaded_bytes)
