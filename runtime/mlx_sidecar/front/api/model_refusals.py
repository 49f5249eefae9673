"""Directories that were refused are not read whole again at each request: not before one of their files changes."""

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

Signature = tuple[tuple[str, int, int, int], ...]  # name, bytes, when its contents and when its rights changed
Key = tuple[str | None, ...]  # the model's name, and what it was to be loaded from and as


def signature(directories: Iterable[str | None]) -> Signature:
    """What tells whether a file of ``directories`` has changed. Touches the file system: not for the event loop."""
    found: list[tuple[str, int, int, int]] = []
    for directory in map(Path, filter(None, directories)):
        for root in (directory, directory / "additional_chat_templates"):
            try:
                found += [(str(file), *_state(file)) for file in root.iterdir()]
            except OSError:  # it is not there, or not ours to read: that may change as well
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
    """By what was asked for. Time is a number. Lives on the front's event loop."""

    def __init__(self) -> None:
        self._refusals: OrderedDict[Key, _Refusal] = OrderedDict()

    def check(self, key: Key, found: Signature, now: float, *, explicit: bool) -> None:
        """Raise again what was raised for ``key``, if its files are as they were and it is not too long ago.

        An ``explicit`` request may try again what has ended engines.
        """
        refusal = self._refusals.get(key)
        if refusal is None or (refusal.deadly and explicit):
            return
        if refusal.signature != found or now >= refusal.until_s:
            del self._refusals[key]
            return
        raise error_from(refusal.fault)

    def remember(self, key: Key, found: Signature, error: RpcError, now: float) -> None:
        """``error`` was raised for ``key``; if it is one that would be raised again, it will be, at once."""
        deadly = isinstance(error, LoadLost)
        if deadly:
            error = ModelLoadFailed(str(key[0]), f"{error.details['because']}; an explicit load tries again")
        if isinstance(error, _LASTING):
            fault = Fault(error.kind, error.message, error.details)
            self._refusals[key] = _Refusal(found, fault, now + LASTS_S, deadly)
            self._refusals.move_to_end(key)
            while len(self._refusals) > _REMEMBERED:
                self._refusals.popitem(last=False)
