"""Anthropic's Messages: ``messages`` and ``messages/count_tokens``, and ``models`` as Anthropic's clients read them."""

from __future__ import annotations

from .surface import SURFACE as SURFACE
