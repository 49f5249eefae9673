"""Text of models and paths, made harmless for a terminal."""

from __future__ import annotations

import sys

# Characters that a terminal obeys instead of showing them, but for tabs and line feeds.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def harmless(text: str) -> str:
    """``text`` with each character that could command a terminal replaced by U+FFFD."""
    return text.translate(_CONTROLS)


def say(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{harmless(text)}\n")
