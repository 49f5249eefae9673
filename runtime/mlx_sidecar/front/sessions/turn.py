"""A turn is one request of a chat with its answer: messages, and tokens as they were computed.

Turns form a tree. Each one holds what is new in it and its parent, so branches share all that came before them.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlx_sidecar_protocol.generate import FinishReason

TOKEN_BYTES = 4
_OBJECTS_BYTES = 800  # of a turn without tokens and messages: objects, its id, and its place in a session


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Turn:
    """``messages`` is JSON of the list of new ones, ``answer`` of the assistant message; the first turn has none.

    Its prompt began with the first ``shared`` tokens of the parent's prompt and answer; ``tokens`` are those behind
    them, the last ``answered`` of which are the answer. ``dropped`` messages of the chat until here, the oldest behind
    its system messages, were left out of the prompt.
    """

    id: str
    parent: Turn | None = None
    messages: bytes = b"[]"
    answer: bytes | None = None
    shared: int = 0
    tokens: array[int] = field(default_factory=lambda: array("I"))
    answered: int = 0
    dropped: int = 0
    finish_reason: FinishReason | None = None

    @property
    def length(self) -> int:
        """The number of tokens of its prompt and its answer."""
        return self.shared + len(self.tokens)

    @property
    def nbytes(self) -> int:
        """About the memory that it takes, its parent's not counted."""
        return _OBJECTS_BYTES + TOKEN_BYTES * len(self.tokens) + len(self.messages) + len(self.answer or b"")

    @property
    def path(self) -> list[Turn]:
        """The turns from the first one to this one."""
        return [*ancestors(self)][::-1]

    def prompt_and_answer(self) -> array[int]:
        """All its tokens, as they were computed."""
        parts: list[array[int]] = []
        need = self.length
        for turn in ancestors(self):
            if need > turn.shared:
                parts.append(turn.tokens[: need - turn.shared])
                need = turn.shared
        whole = array("I")
        for part in reversed(parts):
            whole.extend(part)
        return whole

    def chat(self) -> list[dict[str, Any]]:
        """All messages of the chat until here, answers among them."""
        return [message for turn in self.path for message in turn.own_messages()]

    def own_messages(self) -> list[dict[str, Any]]:
        """Its new messages, and its answer as the last one."""
        own: list[dict[str, Any]] = json.loads(self.messages)
        return own if self.answer is None else [*own, json.loads(self.answer)]


def ancestors(turn: Turn | None) -> Iterator[Turn]:
    """``turn``, its parent, and so on to the first one."""
    while turn is not None:
        yield turn
        turn = turn.parent
