"""The disk quota: how many bytes the files take, and which are evicted. Other processes write there too.

No more than the limit is there at any time, however many processes write at once: each promises its bytes in the
ledger before it writes, and the ledger holds at least what the files take. An unfinished file has its whole size from
the start, and is put into its place under the ledger, so a survey misses none.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .format import TEMPORARY, Unfinished
from .ledger import Busy, Ledger, held
from .names import IDENTITY, parsed

# Eviction goes this share below the limit, so that not every single write evicts.
_SLACK = 1 / 12
# No write takes that long. A process that was stopped in the middle of one and goes on does without its file.
_ABANDONED_S = 3600.0


class Kept(NamedTuple):
    """A file, in the order of eviction: the least recently used goes first, and of equals the one that begins last."""

    used_ns: int
    depth: int
    nbytes: int
    path: Path


class Full(Exception):
    """There is no room: unfinished files of other processes take it, or one of these holds the ledger."""


class DiskQuota:
    """The bytes and files of all identities, as last seen and with this process's changes since, against a limit.

    ``evicted`` are the files that were evicted; the user of this class empties the list.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.files = 0
        self.evicted: list[Path] = []

    def survey(self) -> list[Kept]:
        """Look at every file, remove unfinished ones that were abandoned, and put the ledger right."""
        with suppress(Busy), held(self.directory) as ledger:
            return self._survey(ledger)[0]
        return self._look()[0]

    @contextmanager
    def reserve(self, path: Path, nbytes: int) -> Iterator[Unfinished]:
        """Evict so that ``nbytes`` more can be written, and make the file for them, beside ``path``.

        Raises Full.
        """
        with self._held() as ledger:
            promised = ledger.promised_bytes
            if promised is None or promised + nbytes > self.limit_bytes:
                promised = self._evict(ledger, nbytes)
            if promised + nbytes > self.limit_bytes:
                raise Full
            # Before the file is there: a process that dies in between has promised too much, and not too little.
            ledger.promised_bytes = promised + nbytes
            file = Unfinished(path, nbytes)
        with file:
            yield file

    def keep(self, file: Unfinished, nbytes: int) -> None:
        """Put a file of ``nbytes`` that has been written into its place. Raises Full."""
        with self._held():
            file.keep()
        self.used_bytes += nbytes
        self.files += 1

    @contextmanager
    def _held(self) -> Iterator[Ledger]:
        try:
            with held(self.directory) as ledger:
                yield ledger
        except Busy as busy:
            raise Full from busy

    def _evict(self, ledger: Ledger, nbytes: int) -> int:
        """Evict so that ``nbytes`` more have room, if that can be; return the bytes that are taken then."""
        kept, taken = self._survey(ledger)
        if taken + nbytes > self.limit_bytes:
            goal_bytes = max(0, int(self.limit_bytes * (1 - _SLACK)) - nbytes)
            kept.sort(reverse=True)
            while kept and taken > goal_bytes:
                file = kept.pop()
                file.path.unlink(missing_ok=True)
                taken -= file.nbytes
                self.used_bytes -= file.nbytes
                self.files -= 1
                self.evicted.append(file.path)
        return taken

    def _survey(self, ledger: Ledger) -> tuple[list[Kept], int]:
        kept, unfinished_bytes = self._look()
        taken = self.used_bytes + unfinished_bytes
        ledger.promised_bytes = taken
        return kept, taken

    def _look(self) -> tuple[list[Kept], int]:
        """Look at every file: those that can be evicted, and the bytes of those that are being written."""
        kept: list[Kept] = []
        unfinished_bytes = 0
        for path, status in self._walk():
            if name := parsed(path.name):
                kept.append(Kept(status.st_mtime_ns, -name.start, status.st_size, path))
            elif path.name.endswith(TEMPORARY):
                if time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)
                else:
                    unfinished_bytes += status.st_size
        self.used_bytes = sum(file.nbytes for file in kept)
        self.files = len(kept)
        return kept, unfinished_bytes

    def remove(self, path: Path) -> int:
        """Delete a file, if it is still there; return how many bytes that freed."""
        try:
            nbytes = path.lstat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        self.used_bytes -= nbytes
        self.files -= 1
        return nbytes

    def _walk(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in (folder / name for folder in self.folders() for name in regular(folder)):
            with suppress(FileNotFoundError):
                yield path, path.lstat()

    def folders(self) -> list[Path]:
        """Return the folders, of which there is one for each identity."""
        try:
            with os.scandir(self.directory) as entries:
                return [
                    self.directory / entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and IDENTITY.fullmatch(entry.name)
                ]
        except FileNotFoundError:
            return []


def regular(folder: Path) -> list[str]:
    """Return the names of regular files in ``folder``, symbolic links left out; empty if it is gone or no folder."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return []
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
