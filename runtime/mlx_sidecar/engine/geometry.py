"""What a sequence of a model costs, read off the caches of one token, and whether its caches can be batched at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelUnsupported

from ..models.budget import LayerCost, SequenceCost
from .mlxlm import make_prompt_cache


def probe(name: str, model: Any) -> tuple[SequenceCost, int]:
    """Cost of a sequence and the size of the vocabulary, by running one token through ``model``.

    Raises ``ModelUnsupported`` naming the kind of cache that cannot be batched.
    """
    caches = make_prompt_cache(model)
    for cache in _leaves(caches):
        if not hasattr(cache, "merge"):
            raise ModelUnsupported(name, f"its cache is a {type(cache).__name__}, which cannot be batched")
    logits = model(mx.array([[0]]), cache=caches)
    mx.eval(logits, [cache.state for cache in caches])
    cost = SequenceCost(tuple(_layer_cost(cache) for cache in _leaves(caches)))
    return cost, logits.shape[-1]


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
