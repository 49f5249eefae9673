"""The files of the disk tier as the prefix index knows them, and the reads under way. Used by the step loop only."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from .disk.events import CachedFile, Deleted, DiskEvent, Fetched, Scanned, Written
from .prefix_match import Piece, joined, usable
from .prefixes import Prefixes
from .segment import Segment
from .store import Found

if TYPE_CHECKING:  # it brings mlx
    from .disk.tier import DiskTier


@dataclass(slots=True)
class _File:
    """A file in the index; ``blocks`` counts those found in it, which are those that no other file had before."""

    entry: CachedFile
    identity: str
    blocks: int


@dataclass(slots=True)
class _Read:
    """A read under way; ``fetched`` are the numbers that its segments have in memory."""

    identity: str
    fetched: set[int] = field(default_factory=set)


class DiskIndex:
    """The files of the models that are resident, by the number that the index knows them under."""

    def __init__(self, tier: DiskTier, directory: Path | None, limit_bytes: int) -> None:
        """``tier`` keeps at most ``limit_bytes`` in ``directory``; without one it only exports and imports."""
        self.tier = tier
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._models: dict[str, Prefixes] = {}
        self._scanned: set[str] = set()
        self._files: dict[int, _File] = {}
        self._numbers: dict[Path, int] = {}
        self._next = 0
        self._reads: dict[int, _Read] = {}
        self._looking: set[str] = set()
        self._clearing: set[str] = set()
        self.hangs = False  # the disk was waited for in vain, and has told nothing since

    @property
    def on(self) -> bool:
        """Whether segments are written to disk."""
        return self.tier.figures.state == "on"

    def attach(self, prefixes: Prefixes) -> None:
        """Find the files of a model that has been loaded."""
        self._models[prefixes.identity] = prefixes
        self._looking.add(prefixes.identity)
        self.tier.scan(prefixes.identity, afresh=True)

    def _look(self, identity: str) -> None:
        if identity not in self._looking:  # one scan at a time
            self._looking.add(identity)
            self.tier.scan(identity)

    def detach(self, prefixes: Prefixes) -> None:
        """Forget the files of a model that is gone."""
        del self._models[prefixes.identity]
        self._scanned.discard(prefixes.identity)
        gone = [number for number, file in self._files.items() if file.identity == prefixes.identity]
        for number in gone:
            del self._numbers[self._files.pop(number).entry.path]

    def ready(self, prefixes: Prefixes) -> bool:
        """Whether the files of the model are known, or cannot be."""
        return prefixes.identity in self._scanned or self.hangs or not self.on

    def keep(self, prefixes: Prefixes, tokens: array[int], segment: Segment) -> None:
        """Hand ``segment``, which is new in memory, to the tier to be written later."""
        from .export import settle  # not before it is needed: it brings mlx

        settle(segment)
        before = [self._files[block.disk].entry.path for block in self._found(prefixes, tokens) if block.disk >= 0]
        self.tier.write(prefixes.identity, segment, tokens, list(dict.fromkeys(before)))

    # For sequences that wait.

    def read(self, key: int, prefixes: Prefixes, tokens: array[int]) -> bool:
        """Read the blocks of ``tokens`` that are on disk only, if they are of use; return whether a read was begun.

        ``taken_in`` tells when the read under ``key`` has ended.
        """
        if not self.on or self.hangs or prefixes.identity in self._clearing:
            return False
        self._look(prefixes.identity)  # files that other processes wrote meanwhile serve later sequences
        found = self._found(prefixes, tokens)
        most = len(tokens) - 1
        reach = usable(self._pieces(prefixes, found), prefixes.spec, most)
        if reach <= prefixes.reach(tokens):
            return False
        numbers = dict.fromkeys(block.disk for block in found if block.start < reach and block.ram < 0)
        paths = [self._files[number].entry.path for number in numbers]
        self._reads[key] = _Read(prefixes.identity)
        self.tier.read(key, paths)
        return True

    def cancel(self, key: int) -> None:
        """Give up the read under ``key``, if there is one."""
        if self._reads.pop(key, None) is not None:
            self.tier.cancel(key)

    def touch(self, prefixes: Prefixes, tokens: array[int]) -> None:
        """Mark the files of ``tokens`` as used now, wherever their blocks were found."""
        numbers = dict.fromkeys(block.disk for block in self._found(prefixes, tokens) if block.disk >= 0)
        if numbers:
            self.tier.touch([self._files[number].entry.path for number in numbers])

    def taken_in(self, result: DiskEvent) -> tuple[int, set[int]] | None:
        """Take in an event of the tier; where it ends a read, return its key and the numbers of the segments read."""
        self.hangs = False
        match result:
            case Scanned():
                self._add(result.identity, result.entries)
                self._forget(result.gone)
                if result.done:
                    self._scanned.add(result.identity)
                    self._looking.discard(result.identity)
            case Written():
                self._add(result.identity, [result.entry])
            case Deleted():
                self._forget(result.paths)
            case Fetched():
                return self._fetched(result)
        return None

    def _fetched(self, result: Fetched) -> tuple[int, set[int]] | None:
        read = self._reads.get(result.key)
        if read is None:
            return None
        number = self._numbers.get(result.path)
        prefixes = self._models.get(read.identity)
        cleared = read.identity in self._clearing
        if result.segment is not None and number is not None and prefixes is not None and not cleared:
            kept = self._promote(prefixes, self._files[number].entry, result.segment)
            read.fetched |= set() if kept is None else {kept}
        if result.left:
            return None
        del self._reads[result.key]
        return result.key, read.fetched

    def _promote(self, prefixes: Prefixes, entry: CachedFile, segment: Segment) -> int | None:
        """Put a segment that was read into memory, and return its number there."""
        if not prefixes.spec.fit(segment):  # a file that lies about the model that made it
            self._forget([entry.path])
            return None
        if prefixes.serves(entry.tokens, segment):
            return None
        return prefixes.store.put(prefixes.root, entry.tokens, segment, exact=prefixes.spec.checkpoints)

    def clear(self, key: int, identity: str | None) -> None:
        """Delete the files of ``identity``, or all; ``Cleared`` tells of it. Reads of them come to nothing."""
        self._clearing |= set(self._models) if identity is None else {identity}
        self.tier.clear(key, identity)

    def cleared(self, identity: str | None) -> None:
        """Forget the files of ``identity``, or all, which ``clear`` has deleted."""
        self._clearing -= set(self._clearing) if identity is None else {identity}
        for prefixes in self._models.values():
            if identity in (None, prefixes.identity):
                for number in prefixes.store.index.clear(prefixes.root, True):
                    self._lose(number)

    # The books.

    def _found(self, prefixes: Prefixes, tokens: array[int]) -> list[Found]:
        return prefixes.store.find(prefixes.root, tokens, touch=False)

    def _pieces(self, prefixes: Prefixes, found: list[Found]) -> list[Piece]:
        """The pieces of ``found`` there would be if all that is on disk were in memory."""
        there = takewhile(lambda block: block.ram >= 0 or block.disk >= 0, found)
        return joined(prefixes.piece(block) if block.ram >= 0 else self._piece(block) for block in there)

    def _piece(self, block: Found) -> Piece:
        entry = self._files[block.disk].entry
        checkpointed = entry.checkpointed and block.stop == entry.stop
        return Piece(~block.disk, block.start, min(block.stop, entry.stop), entry.firsts, checkpointed)

    def _add(self, identity: str, entries: Iterable[CachedFile]) -> None:
        prefixes = self._models.get(identity)
        if prefixes is None:
            return
        for entry in entries:
            if (known := self._numbers.get(entry.path)) is not None:
                self._files[known].entry = entry  # it may hold more than it did
                continue
            if self._serves(prefixes, entry):
                continue
            number = self._next
            try:
                inserted = prefixes.store.index.insert(
                    prefixes.root, entry.tokens, entry.start, entry.stop, number, True, prefixes.spec.checkpoints
                )
            except ValueError:  # the blocks before it are gone
                continue
            for freed in inserted.disk:
                self._lose(freed)
            prefixes.store.give_up(inserted.ram)
            if inserted.count:
                self._next += 1
                self._files[number] = _File(entry, identity, inserted.count)
                self._numbers[entry.path] = number

    def _serves(self, prefixes: Prefixes, entry: CachedFile) -> bool:
        """Whether another file serves for ``entry`` already, which might else displace one with checkpoints."""
        if entry.checkpointed or not prefixes.spec.checkpoints:
            return False
        found = self._found(prefixes, entry.tokens)
        return bool(found) and found[-1].stop == entry.stop and found[-1].disk >= 0

    def superseded(self, numbers: Iterable[int]) -> None:
        """Let go of files, by number, whose blocks were replaced by longer ones; one entry for each block."""
        for number in numbers:
            self._lose(number)

    def _lose(self, number: int) -> None:
        file = self._files[number]
        file.blocks -= 1
        if not file.blocks:
            del self._numbers[self._files.pop(number).entry.path]

    def _forget(self, paths: Iterable[Path]) -> None:
        """Forget files that are gone."""
        for path in paths:
            number = self._numbers.get(path)
            if number is None:
                continue
            file = self._files[number]
            prefixes = self._models[file.identity]
            for block in self._found(prefixes, file.entry.tokens):
                if block.disk == number:
                    prefixes.store.index.forget(block.node, True)
            self._files.pop(number, None)
            del self._numbers[path]
