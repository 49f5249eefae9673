"""Reads the family of a tokenizer's decoder from its description (``decoder`` of ``tokenizer.json``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..link.token_table import ByteLevel, Pieces


def family(decoder: Mapping[str, Any] | None) -> ByteLevel | Pieces | None:
    """The family that a decoder description amounts to; None if only the tokenizer itself can decode."""
    steps = _steps(decoder)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return ByteLevel()
    if kinds == ["Metaspace"]:
        return _metaspace(steps[0])
    return _sentencepiece(steps, kinds)


def _steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _metaspace(step: Mapping[str, Any]) -> Pieces:
    space = step["replacement"]
    first = ((space, ""),) if step.get("prepend_scheme", "always") != "never" else None
    return Pieces(replace=((space, " "),), first=first)


def _sentencepiece(steps: list[Mapping[str, Any]], kinds: list[str]) -> Pieces | None:
    """Replace…, then ByteFallback?, Fuse, Strip? in this order: with Fuse in between, Strip sees the whole text."""
    replaces = 0
    while kinds[replaces : replaces + 1] == ["Replace"]:
        replaces += 1
    byte_fallback = kinds[replaces : replaces + 1] == ["ByteFallback"]
    end = kinds[replaces + byte_fallback :]
    strip: Mapping[str, Any] = steps[-1] if end == ["Fuse", "Strip"] else {"content": "", "start": 0, "stop": 0}
    patterns = [step["pattern"].get("String") for step in steps[:replaces]]
    # A regular expression, or stripping at the end of the text, cannot be done token by token.
    if end not in (["Fuse"], ["Fuse", "Strip"]) or not all(patterns) or strip["stop"]:
        return None
    pairs = tuple((pattern, step["content"]) for pattern, step in zip(patterns, steps, strict=False))
    return Pieces(replace=pairs, byte_fallback=byte_fallback, strip=(strip["content"], strip["start"]))
