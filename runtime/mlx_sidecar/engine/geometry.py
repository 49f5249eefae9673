"""What a model's caches are like: what a sequence costs, and whether they can be batched at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelUnsupported

from ..models.budget import LayerCost, SequenceCost
from .mlxlm import PromptProcessingBatch, make_prompt_cache

# Logits that differ by more than this share of their range were computed from another state, not rounded otherwise.
_SAME_STATE = {mx.float32: 1e-4}
_SAME_STATE_IN_HALF_PRECISION = 1e-2


class Geometry(NamedTuple):
    """``pads``: prompts of unequal length may be padded to prefill together."""

    cost: SequenceCost
    vocabulary: int
    pads: bool


def probe(name: str, model: Any) -> Geometry:
    """Find out by running a few tokens through ``model``.

    Raises ``ModelUnsupported`` naming the kind of cache that cannot be batched.
    """
    caches = make_prompt_cache(model)
    for cache in _leaves(caches):
        if not hasattr(cache, "merge"):
            raise ModelUnsupported(name, f"its cache is a {type(cache).__name__}, which cannot be batched")
    logits = model(mx.array([[0]]), cache=caches)
    mx.eval(logits, [cache.state for cache in caches])
    layers = tuple(_layer_cost(cache) for cache in _leaves(caches))
    # What grows can be masked; only a state that every token changes can be spoilt by padding.
    recurrent = any(layer.token_bytes == 0 for layer in layers)
    return Geometry(SequenceCost.of(layers), logits.shape[-1], not recurrent or _pads(model))


def _leaves(caches: Any) -> Iterator[Any]:
    """The caches themselves: some layers hold a list of them."""
    for cache in caches:
        if hasattr(cache, "caches"):
            yield from _leaves(cache.caches)
        else:
            yield cache


def _layer_cost(cache: Any) -> LayerCost:
    keys = getattr(cache, "keys", None)
    if keys is None:  # recurrent state does not grow
        return LayerCost(fixed_bytes=cache.nbytes)
    # [1, heads, room, head size]: room is allocated ahead of use.
    return LayerCost(token_bytes=cache.nbytes // keys.shape[2], window=getattr(cache, "max_size", 0))


def _pads(model: Any) -> bool:
    """Whether a short prompt that was padded goes on as it does alone.

    Some models of mlx-lm (mamba, rwkv7, recurrent_gemma, …) take the padding for tokens. Nothing tells, so try it.
    """
    alone = _logits_after(model, [[1, 2]])[0]
    padded = _logits_after(model, [[1, 2], [1] * 8])[0]
    apart = mx.max(mx.abs(alone - padded)) / mx.maximum(mx.max(alone) - mx.min(alone), 1e-30)
    return bool(apart < _SAME_STATE.get(alone.dtype, _SAME_STATE_IN_HALF_PRECISION))


def _logits_after(model: Any, prompts: list[list[int]]) -> mx.array:
    """[prompts, vocabulary]: logits after each prompt and one token more, the way ``BatchGenerator`` prefills."""
    batch = PromptProcessingBatch(model, list(range(len(prompts))), [make_prompt_cache(model) for _ in prompts])
    batch.prompt(prompts)
    logits: mx.array = model(mx.array([[3]] * len(prompts)), cache=batch.prompt_cache)[:, -1]
    return logits
