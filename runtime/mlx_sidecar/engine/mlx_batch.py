"""The batch of a real model: continuous batching by mlx-lm's ``BatchGenerator``."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

import mlx.core as mx

from mlx_sidecar_protocol.errors import InternalError, OutOfMemory, RpcError

from .batch import Event
from .faults import fault_of
from .mlxlm import BatchGenerator, StopSequences
from .sampling import greedy, processors_for, sampler_for
from .sequence import Sequence

log = logging.getLogger(__name__)

# Prompt tokens of one step, all prompts together: what a cancel, or another stream's next token, may have to wait for.
# On a CPU prefill is no faster with more: 2000 tokens through 16M parameters went at 742 tokens/s with 512, at 534 with
# 1024, at 418 with 2048, and at 506 with 256.
CHUNK_TOKENS = 512
# Under this a chunk's fixed costs show.
LEAST_CHUNK_TOKENS = 64
# Places in the generator. How many are used is the scheduler's business: what it admits starts with the next step.
_PLACES = 1 << 16
# "[malloc] Unable to allocate N bytes", "[metal::malloc] Attempting to allocate N bytes which is …".
_ALLOCATION = re.compile(r"malloc.* allocate (\d+) bytes")


class MlxBatch:
    """One step is one decode step for all that decode, then at most one chunk of prefill."""

    def __init__(self, model: Any, limit_bytes: int, *, pads: bool = True) -> None:
        """``limit_bytes`` is what the device lets us use, for errors to tell what was left of it.

        ``pads``: prompts of unequal length may be padded and prefilled together; else one after the other.
        """
        self._model = model
        self._limit_bytes = limit_bytes
        self._pads = pads
        self._sequences: dict[int, Sequence] = {}  # by the generator's number
        self._generator = self._new_generator()

    def submit(self, sequence: Sequence) -> None:
        # The generator keeps and extends the list it is given.
        [uid] = self._generator.insert(
            [list(sequence.tokens)],
            max_tokens=[sequence.limit],
            samplers=[sampler_for(sequence)],
            logits_processors=[processors_for(sequence)],
            stop_sequences=[_stop_on(tuple(sequence.stop_tokens))],
        )
        self._sequences[uid] = sequence

    def cancel(self, sequence: Sequence) -> None:
        uid = next(uid for uid, known in self._sequences.items() if known is sequence)
        del self._sequences[uid]
        self._generator.remove([uid])
        self._rest()

    def due_s(self, now: float) -> float:
        return now if self._sequences else float("inf")

    def step(self, now: float) -> list[Event]:
        prefilling = sum(sequence.prefilling for sequence in self._sequences.values())
        self._generator.prefill_step_size = max(LEAST_CHUNK_TOKENS, CHUNK_TOKENS // max(1, prefilling))
        try:
            _, responses = self._generator.next()
        except Exception as error:
            log.exception("a step failed; it ends %d sequences", len(self._sequences))
            return self._fail(error)
        events = [self._event(response) for response in responses]
        self._rest()
        return events

    def _event(self, response: Any) -> Event:
        sequence = self._sequences[response.uid]
        if response.finish_reason is not None:
            del self._sequences[response.uid]
        # A stop token ends the sequence and is not part of it.
        tokens = [] if response.finish_reason == "stop" else [response.token]
        return Event(sequence, tokens, response.finish_reason)

    def _fail(self, error: Exception) -> list[Event]:
        """End everything: after an exception the generator's caches are one token ahead of its books."""
        fault = fault_of(self._typed(error))
        lost = list(self._sequences.values())
        self._sequences.clear()
        self._generator = self._new_generator()
        mx.clear_cache()
        return [Event(sequence, [], "error", fault) for sequence in lost]

    def _typed(self, error: Exception) -> RpcError:
        """An allocation that failed says how many bytes it wanted; anything else is our fault."""
        wanted = _ALLOCATION.search(str(error))
        if wanted is None:
            return InternalError()
        free = max(0, self._limit_bytes - mx.get_active_memory())
        return OutOfMemory(need_bytes=int(wanted[1]), have_bytes=free)

    def _rest(self) -> None:
        if not self._sequences:
            mx.clear_cache()  # nobody needs the buffers soon

    def _new_generator(self) -> Any:
        return BatchGenerator(
            self._model,
            sampler=greedy,
            completion_batch_size=_PLACES,
            prefill_batch_size=_PLACES if self._pads else 1,
        )


@lru_cache(maxsize=64)
def _stop_on(tokens: tuple[int, ...]) -> Any:
    """The automaton for a set of stop tokens; immutable, so sequences share it."""
    return StopSequences([[token] for token in tokens] or None)
