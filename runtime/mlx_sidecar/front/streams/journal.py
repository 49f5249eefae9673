"""The journal keeps all that another engine needs to go on with the open requests, within a bound of bytes."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from mlx_sidecar_protocol.errors import OutOfMemory

from ...link.messages import Generate, Priority, Submit

TOKEN_BYTES = 4


class JournalEntry:
    """One request; with its tokens so far, which its transcript holds, it is all that another engine needs.

    The state of detokenising and stop strings belongs to the stream, which outlives the engine.
    """

    def __init__(self, submit: Submit) -> None:
        self._prompt = array("I", submit.tokens)
        self._submit = msgspec.structs.replace(submit, tokens=[])
        self._ends_at = None if submit.deadline_s is None else time.monotonic() + submit.deadline_s

    @property
    def seq(self) -> int:
        return self._submit.seq

    @property
    def model(self) -> str:
        return self._submit.model

    @property
    def models(self) -> tuple[str, ...]:
        """The models that an engine must have for it: its own first, then the one that makes proposals."""
        goal = self._submit.goal
        speculation = goal.speculation if isinstance(goal, Generate) else None
        return (self.model,) if speculation is None or speculation.draft is None else (self.model, speculation.draft)

    @property
    def priority(self) -> Priority:
        return self._submit.priority

    @property
    def prompt(self) -> array[int]:
        """Its tokens; not to be changed."""
        return self._prompt

    @property
    def most_bytes(self) -> int:
        """The most bytes that prompt and answer may take, and the answer's grammar."""
        goal = self._submit.goal
        if not isinstance(goal, Generate):
            return TOKEN_BYTES * len(self._prompt)
        grammar_bytes = 0 if goal.constraint is None else len(goal.constraint.grammar)
        return TOKEN_BYTES * (len(self._prompt) + goal.max_tokens) + grammar_bytes

    def submission(self, emitted: list[int], *, again: bool) -> Submit:
        """The request for an engine; ``emitted`` are the tokens that earlier engines generated.

        A goal other than ``Generate`` has none, and is asked for as it was.
        """
        goal = self._submit.goal
        if isinstance(goal, Generate):
            goal = msgspec.structs.replace(goal, emitted=len(emitted))
        left_s = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
        return msgspec.structs.replace(
            self._submit,
            tokens=self._prompt.tolist() + emitted,
            goal=goal,
            deadline_s=left_s,
            again=again,
        )


class Journal:
    """The entries of all open requests, counted against a bound before they are taken in."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    @contextmanager
    def holding(self, entry: JournalEntry) -> Iterator[None]:
        """Room for ``entry`` while the block runs. Raises OutOfMemory if there is none."""
        need_bytes, free_bytes = entry.most_bytes, self._limit_bytes - self.held_bytes
        if need_bytes > free_bytes:
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=free_bytes)
        self.held_bytes += need_bytes
        try:
            yield
        finally:
            self.held_bytes -= need_bytes
