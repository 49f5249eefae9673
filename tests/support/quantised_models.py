"""Packs the matrices of a checkpoint as mlx packs them, and tells what the packed ones stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Way = dict[str, Any]


def quantise(directory: Path, way: Way, others: dict[str, Way] | None = None) -> dict[str, NDArray[np.float32]]:
    """Pack each matrix in ``directory`` in this ``way``; return the weights as they are unpacked.

    ``others``: ways of the layers whose names end so.
    """
    import mlx.core as mx

    file = directory / "model.safetensors"
    arrays: dict[str, mx.array] = mx.load(str(file))  # type: ignore[assignment]
    packed: dict[str, mx.array] = {}
    plans: dict[str, Any] = dict(way)
    stands_for: dict[str, NDArray[np.float32]] = {}
    for name, array in arrays.items():
        base = name.removesuffix(".weight")
        own = next((each for end, each in (others or {}).items() if base.endswith(end)), way)
        if array.ndim != 2 or array.shape[1] % own["group_size"]:
            packed[name] = array
            stands_for[name] = np.array(array)
            continue
        plans |= {} if own is way else {base: own}
        words, scales, *rest = mx.quantize(array, **own)
        biases = rest[0] if rest else None  # of an affine way
        packed |= {name: words, f"{base}.scales": scales} | ({} if biases is None else {f"{base}.biases": biases})
        stands_for[name] = np.array(mx.dequantize(words, scales, biases, **own, dtype=mx.float32))
    mx.eval(packed)
    mx.save_safetensors(str(file), packed, metadata={"format": "mlx"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "quantization": plans}))
    return stands_for
