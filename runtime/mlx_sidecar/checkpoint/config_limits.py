"""Bounds the values of a model's config, because mlx-lm builds a model from them before it reads a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .file_numbers import shown

LAYERS_LIMIT = 4096
_VALUES_LIMIT = 200_000  # quantisation plans have several values for each of thousands of modules
_DEPTH_LIMIT = 32
_TEXT_LIMIT = 1 << 16
_NUMBER_LIMIT = 1 << 63
_NO_LIMIT = int(1e30)  # as transformers writes it, for lengths that nothing reads


def check_values(model: str, file: str, config: Mapping[str, Any]) -> None:
    """Bound the number of values in ``config``, their nesting, and the size of each number and text.

    Raises ModelLoadFailed naming the first value over a limit.
    """
    for count, (key, value) in enumerate(_values(model, file, config)):
        if count >= _VALUES_LIMIT:
            raise ModelLoadFailed(model, f"{file} holds more than {_VALUES_LIMIT} values")
        if isinstance(value, str) and len(value) > _TEXT_LIMIT:
            raise ModelLoadFailed(model, f"{file}: {shown(key)} is longer than {_TEXT_LIMIT} characters")
        if isinstance(value, int) and value != _NO_LIMIT and not -_NUMBER_LIMIT <= value < _NUMBER_LIMIT:
            raise ModelLoadFailed(model, f"{file}: {shown(key)} is a number of more than 64 bits")
        # Sizes are not counts of layers: "vocab_size_per_layer_input" of Gemma 3n is 262,144.
        if "layer" in key and "size" not in key and type(value) is int and value > LAYERS_LIMIT:
            raise ModelLoadFailed(model, f"{file}: {shown(key)} is above {LAYERS_LIMIT}")


def _values(model: str, file: str, config: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """All values in ``config``, lists and objects too, each with the last key on its path."""
    waiting: list[tuple[str, object, int]] = [("", config, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        yield key, value
        if not isinstance(value, (dict, list)):
            continue
        if depth >= _DEPTH_LIMIT:
            raise ModelLoadFailed(model, f"{file} is nested deeper than {_DEPTH_LIMIT}")
        if isinstance(value, dict):
            waiting += [(inner, each, depth + 1) for inner, each in value.items()]
        else:
            waiting += [(key, each, depth + 1) for each in value]
