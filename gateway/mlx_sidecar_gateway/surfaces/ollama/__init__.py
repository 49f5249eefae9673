"""Ollama's API: ``chat`` and ``generate``, and what its clients ask about models."""

from __future__ import annotations

from .surface import SURFACE as SURFACE
