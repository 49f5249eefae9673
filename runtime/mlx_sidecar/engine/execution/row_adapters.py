"""Which adapter each row of a forward uses."""

from __future__ import annotations

from collections import Counter


class RowAdapters:
    """The part of ``AdaptedRows`` that all forwards share: a row uses one adapter, or none, until it is closed."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._rows: dict[int, str] = {}
        self._uses: Counter[str] = Counter()

    def use(self, row: int, adapter: str) -> None:
        self._rows[row] = adapter
        self._uses[adapter] += 1

    def is_used(self, adapter: str) -> bool:
        return self._uses[adapter] > 0

    def close(self, row: int) -> None:
        """Note that ``row`` is closed, whether it used an adapter or not."""
        if (adapter := self._rows.pop(row, None)) is not None:
            self._uses[adapter] -= 1

    def reset(self) -> None:
        """Note that all rows are closed."""
        self._rows.clear()
        self._uses.clear()
