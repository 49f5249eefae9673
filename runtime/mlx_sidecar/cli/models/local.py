"""Asks a sidecar for the models on this machine, and words their figures."""

from __future__ import annotations

from typing import Any

from ...host import Host

# Files are the same under every engine, and the fake one is there at once.
ENGINE = ("--engine", "fake")


def local_models(folders: list[str]) -> list[dict[str, Any]]:
    """The models of ``local/list``. Raises ``SidecarError``."""
    with Host(*ENGINE) as host:
        models: list[dict[str, Any]] = host.call("local/list", {"folders": folders})["models"]
        return models


def size(size_bytes: int) -> str:
    """Bytes in words, in the units of which a model has some."""
    unit, name = (2**30, "GiB") if size_bytes >= 2**30 else (2**20, "MiB")
    return f"{size_bytes / unit:.1f} {name}"


def count(number: int) -> str:
    """A number of parameters in words."""
    for unit, name in ((10**9, "B"), (10**6, "M")):
        if number >= unit:
            return f"{number / unit:.1f}{name}"
    return str(number)
