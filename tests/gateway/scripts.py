"""Models of the fake engine that say what a test wants."""

from __future__ import annotations

from urllib.parse import quote


def script(text: str, **options: int | str) -> str:
    """A model that says ``text``."""
    more = "".join(f"&{name}={quote(str(value), safe='')}" for name, value in options.items())
    return f"fake?text={quote(text, safe='')}{more}"


def call(name: str, arguments: str) -> str:
    """A call as these models write it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
