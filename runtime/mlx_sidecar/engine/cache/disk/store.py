"""The directory of the disk tier: files of segments, shared by all processes of a user, bounded in bytes.

Every file may vanish at any time, because other processes evict too. Damaged files are deleted, foreign ones are left
alone.
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
from .format import Packed, Reader, pack, read_header
from .header import Damaged, Foreign, Header
from .names import parsed
from .quota import DiskQuota, Full, regular

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

# A folder changed this recently may change again without showing it, because clocks of file systems tick slowly.
_SETTLED_NS = 3 * 10**9

_Content = TypeVar("_Content")


class DiskFailed(Exception):
    """The disk is full, read-only, not ours, or broken; no unfinished file is left."""


class Scan(NamedTuple):
    """The result of a scan: ``gone`` are files told before, ``found`` reads the headers of those never told."""

    gone: tuple[Path, ...]
    found: Iterator[tuple[Path, Header]]


class DiskStore:
    """The files of all identities, used by one thread.

    ``deleted`` are those evicted or found damaged; the user of this class empties the list.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        """Make the directory and survey it. Raises DiskFailed if it cannot be made."""
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.quota = DiskQuota(directory, limit_bytes)
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.deleted: list[Path] = []
        self._reader = Reader()
        self._told: dict[str, set[str]] = {}
        self._foreign: set[Path] = set()
        self._looked: dict[str, int] = {}
        with _failing():
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.quota.survey()

    # Reading.

    def scan(self, identity: str, *, afresh: bool = False) -> Scan:
        """Look for new files of ``identity``; those whose tokens begin first are found first.

        Files that this store wrote itself are not new to it, unless it is to begin ``afresh``. Raises DiskFailed, also
        while ``found`` is iterated.
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
        """Whether no file came or went since the last scan; then the names, which may be many, are not listed."""
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
        """Read a segment; None if its file is gone or of no use. Raises DiskFailed."""
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
        """Return the result of ``read`` for ``path``; None if the file is gone, damaged or foreign."""
        try:
            found = read()
            _check_place(path, found[0])
            return found
        except (FileNotFoundError, MemoryError, RuntimeError):  # gone, or mlx has no memory for it now
            return None
        except Damaged:
            self.counters["disk_damaged"] += 1
            with _failing():
                self.quota.remove(path)
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

    # Writing and deleting.

    def write(
        self, identity: str, parent: bytes | None, segment: Segment, tokens: array[int], before: Iterable[Path] = ()
    ) -> tuple[Path, Header] | None:
        """Keep ``segment``, which is of ``tokens``; the files ``before`` it are then used as recently as itself.

        Returns None if it is larger than the limit, a foreign file has its name, the folder is removed meanwhile, or
        other processes take all the room. Raises DiskFailed.
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
        self.deleted = [deleted for deleted in self.deleted if deleted != path]  # the file before this one was damaged
        self.touch([path], now_ns)
        return path, header or packed.header

    def _at_least(self, path: Path, header: Header) -> Header | None:
        """Return the header of the file that is there, if it serves wherever one with ``header`` would."""
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
        self.quota.remove(path)
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            with self.quota.reserve(path, nbytes) as file:
                file.fill(packed)
                self.quota.keep(file, nbytes)
        except (FileNotFoundError, Full):  # removed meanwhile by another process, or there is no room beside others
            self.counters["disk_unwritten"] += 1
            return False
        finally:
            self.counters["disk_evicted"] += len(self.quota.evicted)
            self._lost(self.quota.evicted)
            self.quota.evicted = []
        self.counters["disk_writes"] += 1
        self.counters["disk_written_bytes"] += nbytes
        return True

    def touch(self, paths: Iterable[Path], now_ns: int | None = None) -> None:
        """Mark the files of a chain as used now, all at one time, so that the deepest is evicted first.

        Raises DiskFailed.
        """
        stamp_ns = time.time_ns() if now_ns is None else now_ns
        for path in paths:
            try:
                os.utime(path, ns=(stamp_ns, stamp_ns), follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DiskFailed(_reason(error)) from error

    def clear(self, identity: str | None) -> int:
        """Delete the files of ``identity``, or all; return how many bytes that freed. Raises DiskFailed."""
        freed = 0
        with _failing():
            for folder in self.quota.folders() if identity is None else [self.directory / identity]:
                self._told.pop(folder.name, None)
                self._looked.pop(folder.name, None)
                freed += sum(self.quota.remove(folder / name) for name in regular(folder) if parsed(name))
        return freed


def _check_place(path: Path, header: Header) -> None:
    """Check that a file holds what its name and its folder say, because files may have been exchanged."""
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
