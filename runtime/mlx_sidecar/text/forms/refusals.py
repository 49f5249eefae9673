"""Refusals of forms name the field of the host's request, down to the keyword of a schema."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_sidecar_protocol.errors import InvalidParams

MESSAGE_CHARACTERS = 400

Path = tuple[str | int, ...]


def refusal(place: Sequence[str | int], message: str, type_: str = "unsupported_form") -> InvalidParams:
    """The error for what stands at ``place`` in the request; ``message`` is cut to a line of bounded length."""
    line = " ".join(message.split())
    cut = line if len(line) <= MESSAGE_CHARACTERS else line[:MESSAGE_CHARACTERS] + "…"
    return InvalidParams([{"loc": list(place), "msg": cut, "type": type_}])


def pointer(path: Path) -> str:
    """``path`` within a schema as a JSON pointer: ``#/properties/name``."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
