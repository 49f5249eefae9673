"""Prompts put together from files, each of which knows its own tokens and the name of the block before them."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..segment import BLOCK
from .events import CachedFile
from .header import Header

# Limits of one ``take``: each entry has all tokens of its prompt, and prompts may be long.
_MOST_ENTRIES, _MOST_TOKENS = 256, 1 << 22


class _Place(NamedTuple):
    """The place of a block's name: the end of the first ``blocks`` blocks of a file."""

    path: Path
    blocks: int


class Chains:
    """The files of one identity; each is told once all files before it are known, whichever was found first."""

    def __init__(self) -> None:
        self._headers: dict[Path, Header] = {}
        self._places: dict[bytes, _Place] = {}
        self._waiting: dict[bytes, list[Path]] = {}
        self._ready: deque[Path] = deque()
        self._told: set[Path] = set()

    def add(self, path: Path, header: Header) -> None:
        """Take in a file that was found or written."""
        self._headers[path] = header
        if header.parent is None or header.parent in self._places:
            self._place(path)
        else:
            self._waiting.setdefault(header.parent, []).append(path)

    def drop(self, paths: Iterable[Path]) -> None:
        """Forget files that are gone; those that continue them wait until they are written again."""
        dropped = {path for path in paths if self._headers.pop(path, None)}
        if not dropped:
            return
        self._told -= dropped
        self._places.clear()
        self._waiting.clear()
        self._ready.clear()
        for path, header in sorted(self._headers.items(), key=lambda item: item[1].start):
            self.add(path, header)

    def told(self, path: Path) -> None:
        """Note that ``path`` has been told already."""
        self._told.add(path)

    def take(self) -> tuple[CachedFile, ...]:
        """Take some files that were not told yet, each behind those it continues; empty if there are no more."""
        entries: list[CachedFile] = []
        tokens = 0
        while self._ready and len(entries) < _MOST_ENTRIES and tokens < _MOST_TOKENS:
            path = self._ready.popleft()
            if path not in self._told:
                self._told.add(path)
                entries.append(self._entry(path))
                tokens += entries[-1].stop
        return tuple(entries)

    def _place(self, path: Path) -> None:
        placing = [path]
        while placing:
            path = placing.pop()
            header = self._headers[path]
            if header.start != self._end(header.parent):
                continue  # not as we write it: its tokens do not begin where the block before them ends
            self._ready.append(path)
            for blocks, name in enumerate(header.names[: len(header.tokens) // BLOCK], start=1):
                self._places.setdefault(name, _Place(path, blocks))
                placing += self._waiting.pop(name, ())

    def _end(self, name: bytes | None) -> int:
        """Return the number of tokens up to the end of a known block."""
        if name is None:
            return 0
        path, blocks = self._places[name]
        return self._headers[path].start + blocks * BLOCK

    def _entry(self, path: Path) -> CachedFile:
        header = self._headers[path]
        parts, parent = [header.tokens], header.parent
        while parent is not None:
            place = self._places[parent]
            before = self._headers[place.path]
            parts.append(before.tokens[: place.blocks * BLOCK])
            parent = before.parent
        return entry(path, header, sum(reversed(parts), array("i")))


def entry(path: Path, header: Header, tokens: array[int]) -> CachedFile:
    """Describe ``path`` with all ``tokens`` of its prompt, from the first on."""
    return CachedFile(path, header.start, header.stop, tokens, header.firsts, bool(header.checkpoints), header.nbytes)
