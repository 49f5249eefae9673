"""Which directories were refused after they had been read, so that they are not read again at each request."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from mlx_sidecar_protocol.errors import RpcError

from ..engine.faults import fault_of
from ..link.faults import error_from
from ..link.messages import Fault, Load

_MOST_REFUSALS = 64
_MOST_FILES = 1000  # of a directory that are looked at
_Key = tuple[str, str, str | None, str | None]
Stamp = tuple[tuple[str, int, int, int], ...]


class Refusals:
    """Used by the step loop only. A refusal holds until a file of the directory, or of the adapter's, changes."""

    def __init__(self) -> None:
        self._known: dict[_Key, tuple[Stamp, Fault]] = {}

    def check(self, load: Load) -> None:
        """Raise what was raised when this was last read."""
        known = self._known.get(_key(load))
        if known is not None and known[0] == stamp(load):
            raise error_from(known[1])

    def remember(self, load: Load, error: RpcError, read: Stamp) -> None:
        """``read`` is the stamp from before the directory was read."""
        self._known[_key(load)] = read, fault_of(error)
        if len(self._known) > _MOST_REFUSALS:
            del self._known[next(iter(self._known))]


def stamp(load: Load) -> Stamp:
    """What tells whether files have changed: names, sizes, times and numbers."""
    paths = [Path(path) for path in (load.path, load.adapter) if path is not None]
    return tuple(entry for path in paths if path.is_dir() for entry in _files(path))


def _files(path: Path) -> list[tuple[str, int, int, int]]:
    found = []
    with os.scandir(path) as entries:
        for entry in islice(entries, _MOST_FILES):
            try:
                status = entry.stat()
            except OSError:  # a link that leads nowhere, or a file that has just gone
                continue
            found.append((entry.name, status.st_size, status.st_mtime_ns, status.st_ino))
    return sorted(found)


def _key(load: Load) -> _Key:
    return load.model, load.path, load.dtype, load.adapter
