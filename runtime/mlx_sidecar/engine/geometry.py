"""What a model's caches are like: what a sequence costs, and which forward runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelUnsupported

from ..models.budget import LayerCost, SequenceCost
from .flat.forward import FlatForward
from .forward import Forward, Part
from .merged import MergedForward
from .mlxlm import KVCache, RotatingKVCache, make_prompt_cache
from .shelving import leaves

log = logging.getLogger(__name__)

# Logits that differ by more than this share of their range were computed from another state, not rounded otherwise.
_SAME_STATE = {mx.float32: 1e-4}
_SAME_STATE_IN_HALF_PRECISION = 1e-2
# What a model raises that does not know what to do with a cache or a mask.
_CANNOT = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
# Two rows, with their tokens: the second prefills while the first decodes, pauses, and goes on.
_ROWS = {0: [1, 2, 3, 4, 5, 6, 7], 1: [8, 9, 10, 11, 12, 13]}
_STEPS = [
    [Part(0, 2, samples=False)],
    [Part(0, 2, samples=True)],
    [Part(1, 3, samples=True), Part(0, 1, samples=True)],
    [Part(0, 1, samples=True)],
    [Part(0, 1, samples=True), Part(1, 1, samples=True)],
    [Part(1, 2, samples=True)],
]


class Geometry(NamedTuple):
    """What a sequence of the model costs, how many tokens it knows, and what runs it."""

    cost: SequenceCost
    vocabulary: int
    forward: Forward


def probe(name: str, model: Any) -> Geometry:
    """Find out by running a few tokens through ``model``.

    A model is run flat if its caches allow it, else merged, else row by row: the first of these that gives the logits
    which the model gives a sequence alone. Raises ``ModelUnsupported`` if none does.
    """
    caches = make_prompt_cache(model)
    logits = model(mx.array([[0]]), cache=caches)
    mx.eval(logits, [cache.state for cache in caches])
    flat = all(type(cache) is KVCache or (type(cache) is RotatingKVCache and not cache.keep) for cache in caches)
    batchable = all(hasattr(cache, "merge") for cache in leaves(caches))
    makers: list[Callable[[], FlatForward | MergedForward]] = [
        *([lambda: FlatForward(model, caches)] if flat else []),
        *([lambda: MergedForward(model, batchable=True)] if batchable else []),
        lambda: MergedForward(model, batchable=False),
    ]
    alone = {row: _alone(model, tokens) for row, tokens in _ROWS.items()}
    for make in makers:
        if (forward := _tried(make(), alone)) is not None:
            pooled = isinstance(forward, FlatForward)
            cost = SequenceCost.of([_layer_cost(cache, pooled) for cache in leaves(caches)])
            return Geometry(cost, logits.shape[-1], forward)
    raise ModelUnsupported(name, "its logits depend on how a sequence is cut into passes")


def _layer_cost(cache: Any, pooled: bool) -> LayerCost:
    keys = getattr(cache, "keys", None)
    if keys is None:  # recurrent state does not grow
        return LayerCost(fixed_bytes=cache.nbytes)
    if isinstance(keys, tuple):  # quantised: packed numbers, scales and biases
        keys = keys[0]
    # [1, heads, room, head size]: room is allocated ahead of use.
    return LayerCost(token_bytes=cache.nbytes // keys.shape[2], window=getattr(cache, "max_size", 0), pooled=pooled)


def _alone(model: Any, tokens: list[int]) -> mx.array:
    """[tokens, vocabulary]: logits after each, with mlx-lm's own caches."""
    logits: mx.array = model(mx.array([tokens]), cache=make_prompt_cache(model))[0]
    return logits


def _tried(forward: FlatForward | MergedForward, alone: dict[int, mx.array]) -> Forward | None:
    """``forward``, or None where it cannot run the model, which is then as it was before."""
    try:
        if _agrees(forward, alone):
            return forward
        log.info("%s: the logits are others than those of a sequence alone", type(forward).__name__)
    except _CANNOT as error:
        log.info("%s: %s: %s", type(forward).__name__, type(error).__name__, error)
    forward.restore()
    return None


def _agrees(forward: Forward, alone: dict[int, mx.array]) -> bool:
    held = dict.fromkeys(_ROWS, 0)
    for row, tokens in _ROWS.items():
        forward.open(row, len(tokens))
    agree = True
    for parts in _STEPS:
        tokens = [token for part in parts for token in _ROWS[part.row][held[part.row] :][: part.tokens]]
        logits = forward.run(parts, mx.array(tokens))
        for part in parts:
            held[part.row] += part.tokens
        expected = [alone[part.row][held[part.row] - 1] for part in parts if part.samples]
        mx.eval(logits, forward.state)
        agree = agree and all(_close(one, other) for one, other in zip(logits, expected, strict=True))
    for row in _ROWS:
        forward.close(row)
    return agree


def _close(one: mx.array, other: mx.array) -> bool:
    apart = mx.max(mx.abs(one - other)) / mx.maximum(mx.max(other) - mx.min(other), 1e-30)
    return bool(apart < _SAME_STATE.get(one.dtype, _SAME_STATE_IN_HALF_PRECISION))
