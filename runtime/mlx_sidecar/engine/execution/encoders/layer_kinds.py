"""Layers of an encoder that see all tokens, and those that have a window; each kind has its own rotary positions."""

from __future__ import annotations

from typing import Any, Final

from mlx_sidecar_protocol.errors import ModelUnsupported

from .tensors import Settings

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"


def kinds_of(settings: Settings, otherwise: list[str]) -> list[str]:
    """The kind of each layer, by ``layer_types``; without it ``otherwise``. Raises ModelLoadFailed."""
    named: Any = settings.get("layer_types")
    if named is None:
        return otherwise
    if (
        not isinstance(named, list)
        or len(named) != len(otherwise)
        or any(each not in (FULL, SLIDING) for each in named)
    ):
        raise settings.broken("layer_types")
    return named


def named_rope(settings: Settings, kind: str, otherwise: float) -> float:
    """The base of the rotary positions by ``rope_parameters``. Raises ModelUnsupported for those that are scaled."""
    named = settings.get("rope_parameters")
    own = named.get(kind, named) if isinstance(named, dict) else None
    if not isinstance(own, dict) or own.get("rope_type", "default") != "default":
        raise ModelUnsupported(settings.model, "its rope_parameters are not of type default")
    return Settings(settings.model, own).number("rope_theta", otherwise)
