"""``responses``: answers as items, which later requests can continue."""

from __future__ import annotations

from .routes import ROUTES

__all__ = ["ROUTES"]
