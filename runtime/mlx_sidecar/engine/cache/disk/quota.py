"""How much of the disk the files take, and which of them go when it is too much. Other processes write there too."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .format import TEMPORARY
from .names import IDENTITY, parsed

# Below the limit by this share, so that room is not made for every single write.
_SLACK = 1 / 12
# What one process writes before it looks again what all have written: four of them together stay within the limit.
_UNSEEN = _SLACK / 4
# No write takes that long. Whoever was stopped in the middle of one and goes on finds it gone, and does without.
_ABANDONED_S = 3600.0


class Kept(NamedTuple):
    """A file, in the order of eviction: the least recently used goes first, and of equals the one that begins last."""

    used_ns: int
    depth: int
    nbytes: int
    path: Path


class DiskQuota:
    """``used_bytes`` and ``files`` are of all identities, as last seen, with what this process has changed since."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.files = 0
        self._unseen_bytes = 0

    def survey(self) -> list[Kept]:
        """Look at every file. Unfinished ones that nobody is at work on any more are removed."""
        kept = list(self._walk())
        self.used_bytes = sum(file.nbytes for file in kept)
        self.files = len(kept)
        self._unseen_bytes = 0
        return kept

    def make(self, nbytes: int) -> tuple[Path, ...]:
        """Evict what must go so that ``nbytes`` more, at most the limit, can be written; which files that was."""
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
        """A file of ``nbytes`` has been written."""
        self.used_bytes += nbytes
        self.files += 1
        self._unseen_bytes += nbytes

    def remove(self, path: Path) -> int:
        """Delete a file, if it is still there; how many bytes that freed."""
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
        """Of each identity there is one."""
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
    """The names of regular files in ``folder``; none if it is gone, or no folder. Symbolic links are no files to us."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return []
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
