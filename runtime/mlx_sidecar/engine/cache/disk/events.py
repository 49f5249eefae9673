"""What the disk tier tells the step loop."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Literal, NamedTuple

from ..segment import Segment


class CachedFile(NamedTuple):
    """A file that can be read: tokens ``start`` to ``stop`` of a prompt that begins with ``tokens`` (int32, ``stop`` of
    them). ``firsts``: where each of its spans begins; ``checkpointed``: it holds the states after token ``stop``."""

    path: Path
    start: int
    stop: int
    tokens: array[int]
    firsts: tuple[int, ...]
    checkpointed: bool
    nbytes: int


class Scanned(NamedTuple):
    """Some of what a scan found: at most 256 entries, each behind those it needs before it; ``done`` with the last.

    ``gone`` are files told of before that are there no more.
    """

    identity: str
    entries: tuple[CachedFile, ...]
    gone: tuple[Path, ...]
    done: bool


class Fetched(NamedTuple):
    """One file of a read, in the order asked for; ``left`` are still to come. ``segment`` is evaluated.

    None is a miss, and then ``left`` is 0: nobody can go on behind a gap.
    """

    key: int
    path: Path
    segment: Segment | None
    left: int


class Written(NamedTuple):
    """An segment is on disk, for the first time or already."""

    identity: str
    entry: CachedFile


class Deleted(NamedTuple):
    """Files that are there no more: evicted, or found damaged."""

    paths: tuple[Path, ...]


class Cleared(NamedTuple):
    """Nothing of ``identity`` (None: of anybody) that was written before is left; so many bytes were freed.

    ``because`` says why not all of it could be deleted; "" where it was.
    """

    key: int
    identity: str | None
    nbytes: int
    because: str = ""


class Exported(NamedTuple):
    """``because`` says why there is no such file now; "" if there is."""

    key: int
    path: Path
    nbytes: int
    because: str = ""


class Imported(NamedTuple):
    """``tokens`` (int32) from the first on, and what was computed of them, evaluated; None ``because`` of something.

    The file can lie about what made it: whoever takes it in compares shapes and types with the model's own.
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
    """``used_bytes`` and ``files`` of all identities, as last looked up, ``pending_bytes`` are still to be written.

    Counters are totals since the start.
    """

    state: Literal["off", "on", "failed"]
    because: str
    used_bytes: int
    files: int
    counters: dict[str, int]
    pending_bytes: int = 0
