"""The modules of a model that an adapter may name, and why it may not adapt some of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import mlx.core as mx
import mlx.nn as nn

from ..core.adapter import Projection
from .interfaces import Model

_LINEAR = (nn.Linear, nn.QuantizedLinear)


def linear_layers(model: Model) -> Iterator[tuple[str, nn.Module]]:
    """Yield the linear modules within the layers of ``model``, by their paths."""
    for path, module in model.named_modules():
        if type(module) in _LINEAR and "layers" in path.split("."):
            yield path, module


def size_of(module: nn.Module) -> Projection:
    """Return the size of a linear module."""
    outputs, columns = cast("mx.array", module.weight).shape
    return Projection(columns * 32 // module.bits if isinstance(module, nn.QuantizedLinear) else columns, outputs)


def projections(model: Model, adapted: dict[str, Projection]) -> dict[str, Projection]:
    """Return ``adapted`` with all other modules that have weights, none of which can be adapted."""
    others = {
        path: Projection(0, 0, _because(path, module))
        for path, module in model.named_modules()
        if path not in adapted and isinstance(module.get("weight"), mx.array)
    }
    return others | adapted


def _because(path: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Embedding | nn.QuantizedEmbedding):
        return f"{path} is an embedding, which requests do not adapt one by one"
    if "Switch" in kind:
        return f"{path} has the weights of experts ({kind}), which requests do not adapt one by one"
    if path.rpartition(".")[2] == "lm_head":
        return f"{path} is the output projection, which requests do not adapt one by one"
    return f"{path} is a {kind}, which requests do not adapt one by one"
