"""Attention of one-token rows that lie side by side, and of the tokens of one row."""

from __future__ import annotations

import mlx.core as mx

from .plan import Run
from .step import Step


def attend_run(
    step: Step,
    run: Run,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    window: int,
    sinks: mx.array | None,
) -> mx.array:
    """``queries`` [rows, heads, 1, size] of the rows of ``run``; ``keys`` and ``values`` are their whole pool."""
    seen = step.seen(run, window)
    keys = keys[run.first : run.last, :, seen.first : seen.last]
    values = values[run.first : run.last, :, seen.first : seen.last]
    # The reference implementation, which is what a CPU runs, goes through the keys once for each query head.
    if sinks is not None or mx.default_device().type != mx.DeviceType.cpu:
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=seen.mask, sinks=sinks)
    rows, heads, _, size = queries.shape
    shared = keys.shape[1]
    scores = (queries * scale).reshape(rows, shared, heads // shared, size) @ keys.swapaxes(-1, -2)
    bias = step.bias(run, window, scores.dtype)
    if bias is not None:
        scores = scores + bias
    return (mx.softmax(scores, axis=-1, precise=True) @ values).reshape(rows, heads, 1, -1)


def attend_chunk(
    step: Step,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    window: int,
    sinks: mx.array | None,
) -> mx.array:
    """``queries`` [tokens, heads, 1, size] of one row; ``keys`` and ``values`` [1, heads, older and these, size]."""
    count = queries.shape[0]
    mask = step.chunk_mask(count, keys.shape[2] - count, window)
    out = mx.fast.scaled_dot_product_attention(
        queries.transpose(2, 1, 0, 3), keys, values, scale=scale, mask=mask, sinks=sinks
    )
    return out.transpose(2, 1, 0, 3)
