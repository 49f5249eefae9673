"""Rebuilds the config's ``rope_scaling`` from a GGUF file's metadata and its tensors of rotation factors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .block_formats import Floats
from .metadata import Metadata

# Llama 3's scaling is the one that GGUF keeps as factors alone; these are its constants in every model published.
_LOW, _HIGH, _ORIGINAL = 1.0, 4.0, 8192
_TOLERANCE = 1e-4

FACTORS = ("rope_freqs", "rope_factors_long", "rope_factors_short")

ReadFactors = Callable[[str], "Floats | None"]


def rope_scaling(
    meta: Metadata, prefix: str, factors: ReadFactors, theta: float, rotated: int
) -> dict[str, Any] | None:
    """The ``rope_scaling`` of a model whose heads have ``rotated`` numbers turned; None if nothing is scaled.

    ``factors`` reads a tensor of ``FACTORS``, None if there is none. Raises ModelUnsupported naming the key or tensor
    of a scaling that cannot be told from the file.
    """
    key = f"{prefix}.rope.scaling.type"
    kind = meta.text(key, "none")
    meta.skip([f"{prefix}.rope.scaling.finetuned"])
    long, short, frequencies = factors("rope_factors_long"), factors("rope_factors_short"), factors("rope_freqs")
    if long is not None and short is not None:
        return _longrope(meta, prefix, long, short)
    if frequencies is not None and not np.all(frequencies == 1):
        if kind != "none":
            raise meta.unsupported(key, f"{kind!r} beside rope_freqs.weight is not known")
        return _llama3(meta, frequencies, theta, rotated)
    if kind == "linear":
        return {"rope_type": "linear", "type": "linear", "factor": meta.number(f"{prefix}.rope.scaling.factor")}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "type": "yarn",
            "factor": meta.number(f"{prefix}.rope.scaling.factor"),
            "original_max_position_embeddings": meta.count(f"{prefix}.rope.scaling.original_context_length"),
        }
    if kind != "none":
        raise meta.unsupported(key, f"{kind!r} is not known")
    meta.skip([f"{prefix}.rope.scaling.original_context_length"])
    return None


def _longrope(meta: Metadata, prefix: str, long: Floats, short: Floats) -> dict[str, Any]:
    original = meta.count(f"{prefix}.rope.scaling.original_context_length")
    growth = meta.count(f"{prefix}.context_length") / max(original, 1)
    expected = math.sqrt(1 + math.log(growth) / math.log(original)) if growth > 1 and original > 1 else 1.0
    key = f"{prefix}.rope.scaling.attn_factor"
    if abs(meta.number(key, expected) - expected) > _TOLERANCE:
        raise meta.unsupported(key, f"mlx-lm takes {expected:.6g} here")
    return {
        "rope_type": "longrope",
        "type": "longrope",
        "long_factor": _decimals(long),
        "short_factor": _decimals(short),
        "original_max_position_embeddings": original,
    }


def _llama3(meta: Metadata, frequencies: Floats, theta: float, rotated: int) -> dict[str, Any]:
    factor = float(frequencies.max())
    wavelengths = 2 * math.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    smooth = np.clip((_ORIGINAL / wavelengths - _LOW) / (_HIGH - _LOW), 0, 1)
    expected = 1 / ((1 - smooth) / factor + smooth)
    if frequencies.shape != expected.shape or not np.allclose(frequencies, expected, rtol=_TOLERANCE):
        raise meta.unsupported("rope_freqs.weight", "its factors are not those of Llama 3's scaling")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _ORIGINAL,
    }


def _decimals(factors: Floats) -> list[float]:
    return [float(str(factor)) for factor in factors]
