"""The surfaces that the gateway serves."""

from __future__ import annotations

from . import anthropic, ollama, openai, tokens
from .surface import Surface

SURFACES: tuple[Surface, ...] = (openai.SURFACE, anthropic.SURFACE, ollama.SURFACE, tokens.SURFACE)
