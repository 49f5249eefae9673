"""The events with which the disk tier answers the step loop."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Literal, NamedTuple

from ..segment import Segment


class CachedFile(NamedTuple):
    """A file that can be read, with tokens ``start`` to ``stop`` of a prompt.

    ``tokens`` are all ``stop`` of them, int32. ``firsts`` says at which token each span begins; ``checkpointed``,
    whether the file holds the states after token ``stop``.
    """

    path: Path
    start: int
    stop: int
    tokens: array[int]
    firsts: tuple[int, ...]
    checkpointed: bool
    nbytes: int


class Scanned(NamedTuple):
    """A part of what a scan found: at most 256 entries, each behind those it continues; the last part is ``done``.

    ``gone`` are files that were told before and exist no more.
    """

    identity: str
    entries: tuple[CachedFile, ...]
    gone: tuple[Path, ...]
    done: bool


class Fetched(NamedTuple):
    """One file of a read, in the order asked for; ``left`` files are still to come. ``segment`` is evaluated.

    A ``segment`` of None is a miss, and then ``left`` is 0, because blocks behind a gap are of no use.
    """

    key: int
    path: Path
    segment: Segment | None
    left: int


class Written(NamedTuple):
    """A segment is on disk, newly written or already there."""

    identity: str
    entry: CachedFile


class Deleted(NamedTuple):
    """Files were removed: evicted, or found damaged."""

    paths: tuple[Path, ...]


class Cleared(NamedTuple):
    """The files of ``identity`` (None: all) were deleted, which freed ``nbytes``.

    ``because`` says why some could not be deleted; "" if all were.
    """

    key: int
    identity: str | None
    nbytes: int
    because: str = ""


class Exported(NamedTuple):
    """A conversation was written to ``path``, or was not: then ``because`` says why; else it is ""."""

    key: int
    path: Path
    nbytes: int
    because: str = ""


class Imported(NamedTuple):
    """A conversation was read from ``path``: ``tokens`` (int32) from the first on, and their ``segment``, evaluated.

    A ``segment`` of None could not be read; ``because`` says why. The file may lie about the model that made it, so
    shapes and types must be compared with the model's own before it is used.
    """

    key: int
    path: Path
    tokens: array[int]
    segment: Segment | None
    nbytes: int = 0
    because: str = ""


class Failed(NamedTuple):
    """The tier has switched itself off."""

    because: str


DiskEvent = Scanned | Fetched | Written | Deleted | Cleared | Exported | Imported | Failed


class Figures(NamedTuple):
    """The state of the tier, for ``stats``.

    ``used_bytes`` and ``files`` are of all identities, as last seen; ``pending_bytes`` are still to be written.
    Counters are totals since the start.
    """

    state: Literal["off", "on", "failed"]
    because: str
    used_bytes: int
    files: int
    counters: dict[str, int]
    pending_bytes: int = 0
