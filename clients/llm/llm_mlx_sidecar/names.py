"""The names of the models that users have added, in a file of ``llm``'s folder.

``llm`` asks its plugins for models at each start. To ask a sidecar for those on this machine would take far longer than
to read a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import llm

POCKET = "pocket"


@dataclass(frozen=True)
class Names:
    """Models for chats and models for vectors, as ``load`` takes them."""

    chat: list[str] = field(default_factory=lambda: [POCKET])
    embedding: list[str] = field(default_factory=list)


def path() -> Path:
    """The file."""
    return Path(llm.user_dir()) / "mlx-sidecar.json"


def read() -> Names:
    """The names in the file, or those there are without one.

    Raises:
        llm.ModelError: The file holds something else.
    """
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Names()
    except ValueError as error:
        raise _not_ours(str(error)) from None
    if not isinstance(found, dict) or set(found) - {"chat", "embedding"}:
        raise _not_ours("it must have chat and embedding, and nothing else")
    lists = {key: value for key, value in found.items() if isinstance(value, list)}
    if len(lists) < len(found) or not all(isinstance(name, str) for value in lists.values() for name in value):
        raise _not_ours("chat and embedding must be lists of names")
    return Names(**lists)


def write(names: Names) -> None:
    """Write the file anew."""
    path().write_text(json.dumps(asdict(names), indent=2) + "\n", encoding="utf-8")


def _not_ours(why: str) -> llm.ModelError:
    return llm.ModelError(f"{path()}: {why}; delete it, or put it right")
