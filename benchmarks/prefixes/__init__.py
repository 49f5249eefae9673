"""The gains, costs and errors of the prefix cache: ``python -m benchmarks.prefixes``."""

from __future__ import annotations

from importlib import import_module

from ..measure import Row

PICTURE = "\n![First tokens cold and warm](plots/prefixes.png)\n"
PARTS = ("first_token", "chats", "damage", "kills")


def run(*parts: str) -> list[Row]:
    """Return the rows of ``parts``, each a module here, or of all."""
    return [row for part in parts or PARTS for row in import_module(f"{__name__}.{part}").run()]
