"""The mlx backend loads models from their directories to the device, and gives their memory back."""

from __future__ import annotations

import gc
import logging
import platform
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar, cast
from weakref import WeakValueDictionary

import mlx.core as mx

from mlx_sidecar_protocol.errors import EngineLost, ModelLoadFailed

from ... import __version__
from ...checkpoint.dense import DenseFile, inner_dense
from ...checkpoint.embedding import EmbeddingFiles, read_embedding
from ...checkpoint.model_directory import Directory, inspect
from ...link.control_messages import Dtype, Load, ModelCard
from ..cache.identity import identity
from ..cache.prefix_cache import PrefixCache
from ..core.adapter import Adaptable
from ..core.memory_cost import LayerCost, SequenceCost
from ..core.oom_backoff import out_of_memory
from ..grammar.library import unavailable
from ..resident_models import LoadedModel, LoadStep
from . import mlxlm
from .backend_policy import PLAIN, Policy
from .dense import Dense
from .drafter import objection
from .embedding_cards import of_decoder, of_encoder
from .encoders.batch import EncoderBatch
from .encoders.loading import encoder_of, load_encoder_steps
from .forward import Forward
from .loader import Weights, convert_steps, load_steps
from .mlx_batch import MlxBatch
from .native.forward import allocated_bytes
from .native.proof import Proven, prove
from .native.spec import FAMILIES
from .native.weights import NotNative
from .probe import Probed, probe_steps
from .trial import Passes

log = logging.getLogger(__name__)

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
        self._batches: WeakValueDictionary[str, MlxBatch] = WeakValueDictionary()  # those of models that are resident
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
        return directory.loaded_bytes(self._dtype(load, directory))

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        before, self._estimated = self._estimated, None
        directory = before[1] if before is not None and before[0] == load else self._inspected(load)
        dtype = self._dtype(load, directory)
        files = read_embedding(load.model, directory.path, inner_dense(directory))
        if encoder_of(directory.config) is not None:
            return (yield from self._encoder(load, directory, files, dtype))
        weights = yield from load_steps(load, directory, dtype, trust_remote_code=self._trust)
        found, not_native = yield from self._natively(load, weights)
        if found is None and dtype is None and (dtype := self._policy.default_dtype) is not None:
            yield LoadStep("converting", 0, weights.memory_bytes, needs_bytes=directory.loaded_bytes(dtype))
            weights = yield from convert_steps(weights, dtype)
        cost, vocabulary, forward = found or (yield from self._probed(load, weights))
        prefixes = None
        if self._prefix_cache is not None and not forward.uncacheable:
            prefixes = self._prefix_cache.prefixes(self._identity(weights, forward), forward.spec)
        because = "" if prefixes is not None else forward.uncacheable or "the cache is switched off"
        adaptable = None
        if not (no_adapters := _no_adapters(load, forward)) and forward.adapted_rows is not None:
            adaptable = Adaptable(forward.adapted_rows)
        embedding, able = of_decoder(load.model, directory, files, forward)
        dense = yield from _dense(load.model, () if embedding is None else files.dense, weights.memory_bytes)
        card = ModelCard(
            model=load.model,
            state="ready",
            path=load.path,
            architecture=weights.architecture,
            parameters=weights.parameters + dense.parameters,
            dtype=weights.dtype,
            quantization=None if directory.quantization is None else directory.quantization.words,
            context_length=directory.context_length,
            vocabulary=vocabulary,
            memory_bytes=weights.memory_bytes + dense.nbytes,
            policy=self._policy.words_for(dtype) if found is None else self._native_words,
            forward=forward.name,
            not_native=not_native,
            capabilities={
                "prefix_cache": because,
                "response_format": unavailable(),
                "speculation": forward.untruncatable,
                "draft": objection(forward),
                "adapter": no_adapters,
                **able,
            },
            embedding=embedding,
        )
        adapted = {} if adaptable is None else adaptable.prefixes
        batch = MlxBatch(
            forward, vocabulary, self._limit_bytes, prefixes, drafts=self._batches, adapted=adapted, dense=dense
        )
        self._batches[load.model] = batch
        return LoadedModel(card, batch, cost, prefixes, adaptable=adaptable)

    def _encoder(
        self, load: Load, directory: Directory, files: EmbeddingFiles, dtype: Dtype | None
    ) -> Generator[LoadStep, None, LoadedModel]:
        loaded = yield from load_encoder_steps(load, directory, dtype, native=self._policy.native is not None)
        sizes = loaded.encoder.sizes
        embedding, capabilities = of_encoder(load.model, sizes, files)
        dense = yield from _dense(load.model, files.dense, loaded.memory_bytes)
        card = ModelCard(
            model=load.model,
            state="ready",
            path=load.path,
            architecture=str(directory.config["model_type"]),
            parameters=loaded.parameters + dense.parameters,
            dtype=loaded.dtype,
            quantization=None if directory.quantization is None else directory.quantization.words,
            context_length=sizes.context,
            vocabulary=sizes.vocabulary,
            memory_bytes=loaded.memory_bytes + dense.nbytes,
            policy=self._policy.words_for(dtype),
            forward="flat",
            capabilities=capabilities,
            embedding=embedding,
        )
        cost = SequenceCost.of([LayerCost(token_bytes=sizes.token_bytes)])
        return LoadedModel(card, EncoderBatch(loaded.encoder, self._limit_bytes, dense), cost)

    def _natively(self, load: Load, weights: Weights) -> Generator[LoadStep, None, tuple[Proven | None, str]]:
        """Return the native forward with what else a probe finds; or why there is none, where there might be."""
        native = self._policy.native
        if native is None:
            return None, ""
        proving = prove(load.model, weights.model, native.arithmetic, native.threads, native.cache_dtype)
        try:
            return (yield from _in_load(proving, weights.memory_bytes)), ""
        except NotNative as error:
            reason = str(error)
        except (ValueError, RuntimeError) as error:
            if out_of_memory(error, 0) is not None:
                raise
            reason = f"mlx-lm's first token failed: {error}"  # for which there is an answer if it fails again
        log.info("%s is not computed by native code: %s", load.model, reason)
        return None, reason

    def _probed(self, load: Load, weights: Weights) -> Generator[LoadStep, None, Probed]:
        try:
            return (yield from _in_load(probe_steps(load.model, weights.model), weights.memory_bytes))
        except (ValueError, RuntimeError) as error:
            if out_of_memory(error, 0) is not None:  # which says nothing of the model
                raise
            raise ModelLoadFailed(load.model, f"its first token failed: {error}") from error

    @property
    def _native_words(self) -> str:
        return "" if self._policy.native is None else self._policy.native.words

    def _identity(self, weights: Weights, forward: Forward) -> str:
        """Name policy and version of mlx too, because the last bits of keys and values may depend on them."""
        native = self._policy.native
        # Instruction sets give the same bits, but for the plain one.
        code = "" if native is None else f"native {native.arithmetic} {native.cache_dtype} {native.kernels == PLAIN}"
        products = code if forward.name == "native" else self._policy.products
        arithmetic = (self.name, products, self._policy.numerics, weights.dtype)
        versions = (self.versions["mlx"], self.versions["mlx_lm"])
        return identity(weights.fingerprint, *arithmetic, *versions, type(forward).__name__)

    def _inspected(self, load: Load) -> Directory:
        return inspect(load.model, load.path, trust_remote_code=self._trust)

    def reclaim(self) -> None:
        gc.collect()  # modules refer to each other
        mx.clear_cache()

    def gauges(self) -> dict[str, float]:
        return {
            "active_bytes": float(mx.get_active_memory() + allocated_bytes()),
            "cache_bytes": float(mx.get_cache_memory()),
            "peak_bytes": float(mx.get_peak_memory()),
        }

    def _dtype(self, load: Load, directory: Directory) -> Dtype | None:
        """Return the type to load as; None, as stored, also where native code is likely to compute the model."""
        if load.dtype is not None:
            return load.dtype
        architecture = mlxlm.module_name(str(directory.config["model_type"]))
        likely = self._policy.native and architecture in FAMILIES and encoder_of(directory.config) is None
        return None if likely else self._policy.default_dtype


def _dense(model: str, files: tuple[DenseFile, ...], loaded_bytes: int) -> Generator[LoadStep, None, Dense]:
    """Load the Dense modules in ``files``, beside a model of ``loaded_bytes``."""
    nbytes = sum(4 * each.parameters for each in files)
    if nbytes:
        yield LoadStep("building", 0, nbytes, needs_bytes=loaded_bytes + nbytes)
    return Dense(files, model)


def _no_adapters(load: Load, forward: Forward) -> str:
    """Return why requests cannot name adapters of a model; "" where they can."""
    if load.adapter is not None:
        return "the model was loaded with an adapter of its own"
    return "" if forward.adapted_rows is not None else "its rows are in caches of mlx-lm's own"


_Result = TypeVar("_Result")


def _in_load(passes: Passes[_Result], loaded_bytes: int) -> Generator[LoadStep, None, _Result]:
    """Run ``passes`` as steps of a load, because where half precision is slow they take long, and others decode."""
    with closing(passes):
        while True:
            try:
                next(passes)
            except StopIteration as done:
                return cast("_Result", done.value)
            yield LoadStep("trying", loaded_bytes, loaded_bytes)
