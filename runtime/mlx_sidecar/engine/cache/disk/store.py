"""The directory of the disk tier: files of segments, shared by all processes of a user, bounded in bytes.

Every file may vanish at any time, for others evict too. What is damaged is deleted; what is foreign is left alone.
"""

from __future__ import annotations

import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..segment import Segment
from .format import Packed, Reader, pack, read_header, write_file
from .header import Damaged, Foreign, Header
from .names import parsed
from .quota import DiskQuota, regular

COUNTERS = (
    "disk_reads",
    "disk_read_bytes",
    "disk_writes",
    "disk_written_bytes",
    "disk_evicted",
    "disk_damaged",
    "disk_foreign",
    "disk_unwritten",
)

# A folder that was changed so recently may change again without showing it: clocks of file systems tick that slowly.
_SETTLED_NS = 3 * 10**9

_Content = TypeVar("_Content")


class DiskFailed(Exception):
    """The disk is full, read-only, not ours, or broken. No unfinished file is left."""


class Scan(NamedTuple):
    """``gone`` are files told of before; ``found`` reads one header after the other, of those never told of."""

    gone: tuple[Path, ...]
    found: Iterator[tuple[Path, Header]]


class DiskStore:
    """Used by one thread. ``deleted`` are the files that were evicted or found damaged since somebody took them."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        """Raises DiskFailed if there can be no such directory."""
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.room = DiskQuota(directory, limit_bytes)
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.deleted: list[Path] = []
        self._reader = Reader()
        self._told: dict[str, set[str]] = {}
        self._foreign: set[Path] = set()
        self._looked: dict[str, int] = {}
        with _failing():
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.room.survey()

    # What is there.

    def scan(self, identity: str, *, afresh: bool = False) -> Scan:
        """Look for files of ``identity``; those whose tokens begin first are found first.

        What this store wrote itself is not new to it, unless it is to begin ``afresh``. Raises DiskFailed, also while
        ``found`` is gone through.
        """
        folder = self.directory / identity
        if not afresh and self._is_as_before(folder):
            return Scan((), iter(()))
        with _failing():
            present = {text: name for text in regular(folder) if (name := parsed(text))}
        told = self._told.setdefault(identity, set())
        gone = set() if afresh else told - present.keys()
        told -= told if afresh else gone
        new = sorted((name, text) for text, name in present.items() if text not in told)
        return Scan(tuple(folder / name for name in gone), self._found(folder, told, [text for _, text in new]))

    def _is_as_before(self, folder: Path) -> bool:
        """Whether no file came or went since the last scan: then names need not be listed, which may be many."""
        with _failing():
            try:
                changed_ns = folder.lstat().st_mtime_ns
            except FileNotFoundError:
                return False
        if self._looked.get(folder.name) == changed_ns:
            return True
        if changed_ns < time.time_ns() - _SETTLED_NS:
            self._looked[folder.name] = changed_ns
        return False

    def _found(self, folder: Path, told: set[str], names: list[str]) -> Iterator[tuple[Path, Header]]:
        for name in names:
            path = folder / name
            header = None if path in self._foreign else self._header(path)
            if header is not None:
                told.add(name)
                yield path, header

    def read(self, path: Path) -> Segment | None:
        """None if it is not there any more, or no good. Raises DiskFailed."""
        found = self._judged(path, lambda: self._reader.read(path, self.limit_bytes))
        if found is None:
            return None
        header, segment = found
        self.counters["disk_reads"] += 1
        self.counters["disk_read_bytes"] += header.nbytes
        return segment

    def _header(self, path: Path) -> Header | None:
        found = self._judged(path, lambda: (read_header(path), None))
        return found and found[0]

    def _judged(self, path: Path, read: Callable[[], tuple[Header, _Content]]) -> tuple[Header, _Content] | None:
        """What ``read`` finds in ``path``. None if that is gone, damaged or foreign: nothing is to be had from it."""
        try:
            found = read()
            _check_place(path, found[0])
            return found
        except (FileNotFoundError, MemoryError, RuntimeError):  # gone, or mlx has no memory for it now
            return None
        except Damaged:
            self.counters["disk_damaged"] += 1
            with _failing():
                self.room.remove(path)
            self._lost([path])
            return None
        except Foreign:
            self.counters["disk_foreign"] += 1
            self._foreign.add(path)
            return None
        except OSError as error:
            raise DiskFailed(_reason(error)) from error

    def _lost(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.deleted.append(path)
            self._told.get(path.parent.name, set()).discard(path.name)

    # What changes.

    def write(
        self, identity: str, parent: bytes | None, segment: Segment, tokens: array[int], before: Iterable[Path] = ()
    ) -> tuple[Path, Header] | None:
        """Keep ``segment``, which is of ``tokens``; the files ``before`` it are then used as recently as itself.

        None if it is larger than the limit, something foreign has its name, or somebody removes the folder. Raises
        DiskFailed.
        """
        packed = pack(identity, parent, segment, tokens)
        path = self.directory / identity / str(packed.header.file_name)
        now_ns = time.time_ns()
        self.touch(before, now_ns)  # first, or room would be made by evicting them
        header = self._at_least(path, packed.header)
        if header is None:
            with _failing():
                if not self._put(path, packed):
                    return None
        self._told.setdefault(identity, set()).add(path.name)
        self.deleted = [deleted for deleted in self.deleted if deleted != path]  # what was there was damaged
        self.touch([path], now_ns)
        return path, header or packed.header

    def _at_least(self, path: Path, header: Header) -> Header | None:
        """Of the file that is there, if it can do all that one of ``header`` could."""
        there = self._header(path)
        enough = (
            there is not None and len(there.checkpoints) >= len(header.checkpoints) and there.firsts <= header.firsts
        )
        return there if enough else None

    def _put(self, path: Path, packed: Packed) -> bool:
        nbytes = packed.header.nbytes
        if nbytes > self.limit_bytes or path in self._foreign:
            self.counters["disk_unwritten"] += 1
            return False
        self.room.remove(path)
        evicted = self.room.make(nbytes)
        self.counters["disk_evicted"] += len(evicted)
        self._lost(evicted)
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            write_file(path, packed)
        except FileNotFoundError:  # removed meanwhile by another process
            self.counters["disk_unwritten"] += 1
            return False
        self.room.add(nbytes)
        self.counters["disk_writes"] += 1
        self.counters["disk_written_bytes"] += nbytes
        return True

    def touch(self, paths: Iterable[Path], now_ns: int | None = None) -> None:
        """All of a chain are used now, and equally: of equals the deepest goes first. Raises DiskFailed."""
        stamp_ns = time.time_ns() if now_ns is None else now_ns
        for path in paths:
            try:
                os.utime(path, ns=(stamp_ns, stamp_ns), follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DiskFailed(_reason(error)) from error

    def clear(self, identity: str | None) -> int:
        """Delete what is there of ``identity``, or all; how many bytes that freed. Raises DiskFailed."""
        freed = 0
        with _failing():
            for folder in self.room.folders() if identity is None else [self.directory / identity]:
                self._told.pop(folder.name, None)
                self._looked.pop(folder.name, None)
                freed += sum(self.room.remove(folder / name) for name in regular(folder) if parsed(name))
        return freed


def _check_place(path: Path, header: Header) -> None:
    """Files may have been exchanged: what is in one must be what its name and its folder say."""
    if header.file_name != parsed(path.name) or header.identity != path.parent.name:
        raise Damaged("it holds something else than its name says")


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskFailed(_reason(error)) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
