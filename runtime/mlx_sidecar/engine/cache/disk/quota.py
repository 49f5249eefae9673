"""The disk quota: how many bytes the files take, and which are evicted. Other processes write there too."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .format import TEMPORARY
from .names import IDENTITY, parsed

# Eviction goes this share below the limit, so that not every single write evicts.
_SLACK = 1 / 12
# A process surveys the directory again after writing this share: so four processes together stay within the limit.
_UNSEEN = _SLACK / 4
# No write takes that long. A process that was stopped in the middle of one and goes on does without its file.
_ABANDONED_S = 3600.0


class Kept(NamedTuple):
    """A file, in the order of eviction: the least recently used goes first, and of equals the one that begins last."""

    used_ns: int
    depth: int
    nbytes: int
    path: Path


class DiskQuota:
    """The bytes and files of all identities, as last seen and with this process's changes since, against a limit."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.files = 0
        self._unseen_bytes = 0

    def survey(self) -> list[Kept]:
        """Look at every file, and remove unfinished ones that were abandoned."""
        kept = list(self._walk())
        self.used_bytes = sum(file.nbytes for file in kept)
        self.files = len(kept)
        self._unseen_bytes = 0
        return kept

    def make(self, nbytes: int) -> tuple[Path, ...]:
        """Evict so that ``nbytes`` more, at most the limit, can be written; return the files that were evicted."""
        seen = self._unseen_bytes + nbytes <= self.limit_bytes * _UNSEEN
        if seen and self.used_bytes + nbytes <= self.limit_bytes:
            return ()
        kept = sorted(self.survey(), reverse=True)
        evicted: list[Path] = []
        if self.used_bytes + nbytes > self.limit_bytes:
            goal_bytes = max(0, int(self.limit_bytes * (1 - _SLACK)) - nbytes)
            while kept and self.used_bytes > goal_bytes:
                file = kept.pop()
                file.path.unlink(missing_ok=True)
                self.used_bytes -= file.nbytes
                self.files -= 1
                evicted.append(file.path)
        return tuple(evicted)

    def add(self, nbytes: int) -> None:
        """Count a file of ``nbytes`` that has been written."""
        self.used_bytes += nbytes
        self.files += 1
        self._unseen_bytes += nbytes

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

    def _walk(self) -> Iterator[Kept]:
        for path in (folder / name for folder in self.folders() for name in regular(folder)):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if name := parsed(path.name):
                yield Kept(status.st_mtime_ns, -name.start, status.st_size, path)
            elif path.name.endswith(TEMPORARY) and time.time() - status.st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)

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
