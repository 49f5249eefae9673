"""Masks leave a row those tokens that its grammar allows; all others cannot be sampled.

A mask comes after the logits processors and before the filters. Noise is keyed by position and token. So without
filters a mask changes nothing where the token that is sampled without it is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]  # [vocabulary]: true for the tokens that are left

NO_MASKS: Mapping[int, Mask] = MappingProxyType({})  # by row


def places_of(rows: list[int], masked: Collection[int], without: Collection[int]) -> list[int]:
    """Return the places among ``rows`` of those that are ``masked``, but for the places in ``without``."""
    return [place for place, row in enumerate(rows) if row in masked and place not in without]


def masked_logits(logits: mx.array, rows: list[int], masks: Mapping[int, Mask]) -> mx.array:
    """Return ``logits`` [rows, vocabulary] with minus infinity where a row's mask has no token."""
    everything = np.ones(logits.shape[-1], np.bool_)
    allowed = mx.array(cast("Any", np.stack([masks.get(row, everything) for row in rows])))  # stubs know no bool
    return mx.where(allowed, logits, -mx.inf)
