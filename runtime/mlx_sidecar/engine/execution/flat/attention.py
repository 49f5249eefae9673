"""Computes attention of rows that lie side by side and bring equally few tokens, and of the tokens of one row."""

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
    """Attend with ``queries`` [tokens, heads, 1, size] of ``run``'s rows; ``keys``, ``values`` are their whole pool."""
    seen = step.seen(run, window)
    if run.count > 1:
        queries = queries.reshape(-1, run.count, *queries.shape[1:]).squeeze(3).swapaxes(1, 2)
    keys = keys[run.first : run.last, :, seen.first : seen.last]
    values = values[run.first : run.last, :, seen.first : seen.last]
    if sinks is not None or not _on_cpu():
        out = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=seen.mask, sinks=sinks)
    else:
        bias = step.bias(run, window, queries.dtype)
        out = _attend_explicitly(queries, keys, values, scale, None if bias is None else bias[:, :, None])
    if run.count > 1:
        out = out.swapaxes(1, 2).flatten(0, 1)[:, :, None]
    return out


def attend_chunk(
    step: Step,
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    window: int,
    sinks: mx.array | None,
) -> mx.array:
    """Attend with ``queries`` [tokens, heads, 1, size] of one row to its older tokens and these.

    ``keys`` and ``values`` are [1, heads, older and these, size].
    """
    count, before = queries.shape[0], keys.shape[2] - queries.shape[0]
    turned = queries.transpose(2, 1, 0, 3)
    if sinks is None and _on_cpu():
        out = _attend_explicitly(turned, keys, values, scale, step.chunk_bias(count, before, window, queries.dtype))
    else:
        mask = step.chunk_mask(count, before, window)
        out = mx.fast.scaled_dot_product_attention(turned, keys, values, scale=scale, mask=mask, sinks=sinks)
    return out.transpose(2, 1, 0, 3)


def _on_cpu() -> bool:
    """Whether mlx's reference implementation would run.

    It goes through the keys once for each query head, and once more through all scores for the mask.
    """
    return mx.default_device().type == mx.DeviceType.cpu


def _attend_explicitly(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, bias: mx.array | None
) -> mx.array:
    """Attend with ``queries`` [rows, heads, tokens, size] by plain products.

    ``keys`` and ``values`` are [rows, shared heads, entries, size]. ``bias`` is added to scores [rows, shared heads,
    heads for each, tokens, entries].
    """
    rows, heads, tokens, size = queries.shape
    shared, entries = keys.shape[1:3]
    grouped = (queries * scale).reshape(rows, shared, -1, size)
    scores = grouped @ keys.swapaxes(-1, -2)
    if bias is not None:
        scores = (scores.reshape(rows, shared, -1, tokens, entries) + bias).reshape(scores.shape)
    return (mx.softmax(scores, axis=-1, precise=True) @ values).reshape(rows, heads, tokens, -1)
