"""Rows of a batch begin with what the prefix cache has of them, and what they compute goes there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..cache.prefixes import NOTHING, Prefixes
from ..cache.segment import BLOCK
from ..core.batch import Role, Work
from ..core.sequence import Sequence
from .forward import Forward
from .soundness import sound


class RowPrefixes:
    """The way between the rows of one ``forward`` and ``prefixes``, where nothing is cached if that is None.

    Rows with an adapter have those of the adapter, by its name in ``adapted``.
    """

    def __init__(
        self, forward: Forward, prefixes: Prefixes | None, adapted: Mapping[str, Prefixes] = MappingProxyType({})
    ) -> None:
        self._forward = forward
        self._prefixes = prefixes
        self._adapted = adapted
        forward.captured = prefixes is not None

    def open(self, sequence: Sequence) -> None:
        """Open a row that begins with the longest known part of ``sequence``."""
        history, prefixes = sequence.history(), self._of(sequence)
        match = NOTHING
        if prefixes is not None and sequence.asked.cacheable:
            match = prefixes.find(history, sequence.prefix.fetched)
        self._forward.open(sequence.id, len(history), match)
        if prefixes is not None:
            self._forward.checkpoint_at(sequence.id, prefixes.checkpoint_at(history))
        sequence.known = match.length
        sequence.cached_upto = match.length // BLOCK * BLOCK
        if sequence.times.started_s is None:
            sequence.cached_tokens, sequence.cached_disk = match.length, match.disk

    def capture(self, sequence: Sequence, stop: int) -> None:
        """Put the first ``stop`` tokens of a row into the prefix cache, as far as they may go and are missing there."""
        if sequence.asked.vector is not None:
            stop = min(stop, sequence.asked.cacheable)
        prefixes, start = self._of(sequence), sequence.cached_upto
        if prefixes is None or stop <= start:
            return
        history = sequence.history()
        if not prefixes.spec.checkpoints:  # where another has computed the same, nothing need be copied
            start = max(start, prefixes.lacks(history, stop))
        if start < stop:
            segments = self._forward.capture(sequence.id, start, stop)
            # A token that was chosen proves the state before it. Of a prompt there is no token yet, and its step is
            # waited for anyway.
            if sequence.generated or all(map(sound, segments)):
                prefixes.put(history, segments)
        sequence.cached_upto = stop // BLOCK * BLOCK

    def _of(self, sequence: Sequence) -> Prefixes | None:
        adapter = sequence.asked.adapter
        return self._prefixes if adapter is None or self._prefixes is None else self._adapted.get(adapter)

    def capture_blocks(self, work: list[Work]) -> None:
        """Capture the blocks of prompts that a step completed, and the blocks of answers that a window will drop."""
        if self._prefixes is None:
            return
        for sequence, _, role in work:
            if role is Role.PREFILL or self._prefixes.spec.window_evicts:
                self.capture(sequence, min(sequence.known, len(sequence.history())) // BLOCK * BLOCK)
