"""Refusals are remembered, so that a refused directory is not read whole again before one of its files changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mlx_sidecar_protocol.errors import ModelLoadFailed, ModelUnsupported, RpcError

from ...link.faults import error_from
from ...link.messages import Fault
from ..supervision.pending_calls import LoadLost

# A refusal may have had a cause outside of the files: a temporary folder that was full, a disk that failed.
LASTS_S = 300.0
_REMEMBERED = 256
_LASTING = (ModelLoadFailed, ModelUnsupported)

Signature = tuple[tuple[str, int, int, int], ...]  # name, bytes, times of the last change of contents and of rights
Key = tuple[str | None, ...]  # the model's name, its directory, and how it was to be loaded


def signature(directories: Iterable[str | None]) -> Signature:
    """Changes when a file of ``directories`` does. Touches the file system, so not for the event loop."""
    found: list[tuple[str, int, int, int]] = []
    for directory in map(Path, filter(None, directories)):
        for root in (directory, directory / "additional_chat_templates"):
            try:
                found += [(str(file), *_state(file)) for file in root.iterdir()]
            except OSError:  # the directory is missing or not ours to read, which may change as well
                found.append((str(root), -1, -1, -1))
    return tuple(sorted(found))


def _state(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:  # a link to nowhere
        return -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


class _Refusal(NamedTuple):
    signature: Signature
    fault: Fault
    until_s: float
    deadly: bool


class ModelRefusals:
    """The refusals by key, on the front's event loop. Time is in seconds."""

    def __init__(self) -> None:
        self._refusals: OrderedDict[Key, _Refusal] = OrderedDict()

    def check(self, key: Key, found: Signature, now: float, *, explicit: bool) -> None:
        """Raise the error of ``key`` again, if its files are as they were and it is not too long ago.

        An ``explicit`` request may try again a load that has ended engines.
        """
        refusal = self._refusals.get(key)
        if refusal is None or (refusal.deadly and explicit):
            return
        if refusal.signature != found or now >= refusal.until_s:
            del self._refusals[key]
            return
        raise error_from(refusal.fault)

    def remember(self, key: Key, found: Signature, error: RpcError, now: float) -> None:
        """``error`` was raised for ``key``; if it would be raised again, ``check`` raises it at once."""
        deadly = isinstance(error, LoadLost)
        if deadly:
            error = ModelLoadFailed(str(key[0]), f"{error.details['because']}; an explicit load tries again")
        if isinstance(error, _LASTING):
            fault = Fault(error.kind, error.message, error.details)
            self._refusals[key] = _Refusal(found, fault, now + LASTS_S, deadly)
            self._refusals.move_to_end(key)
            while len(self._refusals) > _REMEMBERED:
                self._refusals.popitem(last=False)
