"""Probing a model finds the memory that a sequence costs, and the forward that runs the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported

from ..core.memory_cost import LayerCost, SequenceCost
from ..core.oom_backoff import out_of_memory
from .flat.forward import FlatForward
from .forward import Forward
from .interfaces import Cache, Model, has_entries, is_window, leaves, new_caches
from .merged_forward import MergedForward
from .trial import NotFinite, Passes, Trial, drained, half_precision

log = logging.getLogger(__name__)

# A model that cannot use a cache or a mask raises one of these.
_CANNOT = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


class Probed(NamedTuple):
    """The cost of a sequence of the model, the size of its vocabulary, and its forward."""

    cost: SequenceCost
    vocabulary: int
    forward: Forward


def probe(name: str, model: Model) -> Probed:
    """Return the result of ``probe_steps``, at once."""
    return drained(probe_steps(name, model))


def probe_steps(name: str, model: Model) -> Passes[Probed]:
    """Find out by running a few tokens through ``model``; yields after each pass.

    A model is run flat if its caches allow it, else merged: the first of these that gives the logits which the model
    gives a sequence alone, up to its own rounding. Else it is run row by row, which is mlx-lm's own way and cannot be
    wrong. Raises ``ModelUnsupported`` if mlx-lm cannot run it with a cache, ``ModelLoadFailed`` where its logits are
    not finite.
    """
    caches = new_caches(model)
    logits = model(mx.array([[0]]), cache=caches)
    mx.eval(logits, [cache.state for cache in caches])
    vocabulary = logits.shape[-1]
    trial = Trial(model, vocabulary)
    try:
        yield from trial.begin()
    except NotFinite as error:
        raise ModelLoadFailed(name, _not_finite(model)) from error
    forward: Forward | None = None
    for make in _makers(model, caches):
        forward = forward or (yield from _tried(make, trial))
    if forward is None:
        forward = yield from _last_resort(name, model, trial)
    pooled = isinstance(forward, FlatForward)
    cost = SequenceCost.of([_layer_cost(cache, pooled) for cache in leaves(caches)])
    return Probed(cost, vocabulary, forward)


def _makers(model: Model, caches: list[Cache]) -> Iterator[Callable[[], FlatForward | MergedForward]]:
    entries = [cache for cache in caches if has_entries(cache) and not (is_window(cache) and cache.keep)]
    if len(entries) == len(caches):
        yield lambda: FlatForward(model, entries)
    if all(hasattr(cache, "merge") for cache in leaves(caches)):
        yield lambda: MergedForward(model, batchable=True)


def _tried(make: Callable[[], FlatForward | MergedForward], trial: Trial) -> Passes[Forward | None]:
    """Return the forward, or None where it cannot run the model, which is then as it was before."""
    forward = None
    try:
        forward = make()
        if (yield from trial.passes(forward)):
            return forward
        log.info("%s: the logits are others than those of a sequence alone", forward.name)
    except _CANNOT as error:
        if out_of_memory(error, 0) is not None:
            raise
        log.info("a forward cannot run the model: %s: %s", type(error).__name__, error)
    if forward is not None:
        forward.restore()
    return None


def _last_resort(name: str, model: Model, trial: Trial) -> Passes[Forward]:
    try:
        forward = MergedForward(model, batchable=False)
        yield from trial.runs(forward)
    except _CANNOT as error:
        if out_of_memory(error, 0) is not None:
            raise
        because = f"mlx-lm cannot run it with a cache: {type(error).__name__}: {error}"
        raise ModelUnsupported(name, because) from error
    return forward


def _not_finite(model: Model) -> str:
    """Return the reason to give, and a remedy where one is known."""
    better = {mx.float16: "bfloat16 or float32", mx.bfloat16: "float32"}
    half = half_precision(model)
    because = "its logits are not finite, whatever the token"
    return because if half is None else f"{because}; half precision may overflow: try dtype {better[half]}"


def _layer_cost(cache: Cache, pooled: bool) -> LayerCost:
    keys = getattr(cache, "keys", None)
    if keys is None:  # recurrent state does not grow
        return LayerCost(fixed_bytes=cache.nbytes)
    if isinstance(keys, tuple):  # quantised: packed numbers, scales and biases
        keys = keys[0]
    # [1, heads, room, head size]: room is allocated ahead of use.
    return LayerCost(token_bytes=cache.nbytes // keys.shape[2], window=getattr(cache, "max_size", 0), pooled=pooled)
