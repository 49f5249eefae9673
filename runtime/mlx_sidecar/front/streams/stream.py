"""One running generation as the front sees it: tokens in, text out, numbered deltas for the host, one ending."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mlx_sidecar_protocol.envelope import encode_notification
from mlx_sidecar_protocol.errors import RpcError
from mlx_sidecar_protocol.generate import FinishReason
from mlx_sidecar_protocol.model import StreamId
from mlx_sidecar_protocol.notifications import StreamDelta, StreamInterrupted

from ...link.messages import Nearest, Submit, Timing, TokenLogprob
from ..output.late_text import LateText
from ..output.special_stops import SpecialStops
from ..output.until_stop import Detokenizer, StopMatcher, until_stop
from .journal import JournalEntry
from .logprobs import Logprobs, WithLogprobs
from .transcript import CHUNK, Transcript


class Outbox(Protocol):
    """Where the deltas of a host's streams go."""

    @property
    def lock(self) -> AbstractContextManager[Any]: ...
    def put(self, body: Callable[[], bytes | None]) -> None: ...
    def announce(self, source: Stream, not_before: float = 0.0) -> None: ...


@dataclass(frozen=True)
class Ending:
    """How a stream ended. ``error`` goes with the reason ``error``; ``started`` is false if no device work was done.

    ``stop_token`` ended it, if a token did. The rest is what the engine says of the prefix cache; see ``Finished``.
    """

    reason: FinishReason
    started: bool
    timing: Timing
    cached_tokens: int = 0
    error: RpcError | None = None
    stop_token: int | None = None
    cached_disk: int = 0
    uncacheable: str = ""
    pinned: int = 0
    nearest: Nearest | None = None


class Stream:
    """Tokens arrive on the event loop; deltas are taken by the writer thread, when the host reads.

    ``entry`` and the transcript's tokens are the journal: all that is needed to go on on another engine.
    ``id`` is the host's name for the stream, None if it wants no deltas; ``min_interval_s`` is the least time between
    two of them, ``window`` how many may go unacknowledged while it runs. ``logprobs`` is there if they were asked for,
    ``special_stops`` if a stop string names a special token.
    A ``Source`` of the mailbox.
    """

    def __init__(
        self,
        submit: Submit,
        id_: StreamId | None,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        min_interval_s: float = 0.0,
        window: int | None = None,
        logprobs: Logprobs | None = None,
        special_stops: SpecialStops | None = None,
    ) -> None:
        self.entry = JournalEntry(submit)
        self.id = id_
        self.min_interval_s = min_interval_s
        self.window = window
        self.logprobs = logprobs
        self.outbox: Outbox | None = None  # of the host that hears it
        self.paused = False  # the engine was told to wait for the host
        self.placed = False  # the engine has it
        self.leaving: FinishReason | None = None  # it has been asked to end
        self.interruptions = 0  # engines that were lost with it
        self._notice: str | None = None  # what the host has not been told of the last one
        self.transcript = Transcript()
        self.opened_at = time.monotonic()
        self.first_token_at: float | None = None
        self.stop_match: str | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.late = detokenizer if isinstance(detokenizer, LateText) else None  # its text comes later than its tokens
        if self.late is not None:
            self.late.one_by_one = special_stops is not None
        self._text = until_stop(detokenizer, stops, special_stops)
        # Where each delta began, by its number: characters and tokens before it.
        self._begins = (array("Q"), array("Q"))
        self._sent = (0, 0)
        self._taken_at = 0.0
        self._acknowledged = 0  # deltas

    @property
    def seq(self) -> int:
        """The engine's number for it: the same on every engine."""
        return self.entry.seq

    # On the event loop.

    def push(self, tokens: list[int], logprobs: list[TokenLogprob] | None = None) -> bool:
        """Take in new tokens. True if they completed text that the host has not seen."""
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()
        text, self.stop_match = self._text.push(tokens)
        if self.logprobs is not None:
            assert logprobs is not None
            assert len(logprobs) == len(tokens)
            self.logprobs.append(logprobs)  # before the tokens: those are published
        self.transcript.append(text, tokens)
        return text != ""

    def finish(self, ending: Ending) -> None:
        """Release what was held back and settle the ending. Later calls do nothing."""
        if self.ended.done():
            return
        if self.stop_match is None:
            tail, self.stop_match = self._text.finish(ending.stop_token)
            self.transcript.append(tail, [])
        self.ended.set_result(ending)

    def break_off(self, ending: Ending) -> None:
        """Settle the ending with what has been published: more cannot be made. Later calls do nothing."""
        if self.ended.done():
            return
        self.stop_match = None
        self.ended.set_result(ending)

    @property
    def finish_reason(self) -> FinishReason | None:
        """None while it runs. A stop string that was found counts, whatever became of the engine after it."""
        if self.stop_match is not None:
            return "stop"
        if self.ended.cancelled():  # nobody waited for its end
            return "cancelled"
        return self.ended.result().reason if self.ended.done() else None

    @property
    def started(self) -> bool:
        """Whether anything came of it."""
        return self.first_token_at is not None

    @property
    def timing(self) -> Timing:
        """Where the time went until now, for want of the engine's own figures: what it queued counts as prefill."""
        now = time.monotonic()
        first = now if self.first_token_at is None else self.first_token_at
        return Timing(0.0, first - self.opened_at, now - first)

    @property
    def next_delta_at(self) -> float:
        """When, on the monotonic clock, the host wants its next delta; 0 if at once."""
        return self._taken_at + self.min_interval_s if self._begins[0] and self.min_interval_s else 0.0

    @property
    def last_seq(self) -> int | None:
        """Number of the last delta that was taken; None before the first."""
        return len(self._begins[0]) - 1 if self._begins[0] else None

    def rewind(self, after_seq: int | None) -> None:
        """Let the next delta begin behind delta ``after_seq`` again, or at the start."""
        following = 0 if after_seq is None else after_seq + 1
        characters, tokens = self._begins
        if following < len(characters):
            self._sent = (characters[following], tokens[following])

    def acknowledge(self, seq: int) -> None:
        """The host has read the deltas up to number ``seq``, which must have been taken. What it said before stays."""
        self._acknowledged = max(self._acknowledged, seq + 1)

    # Under the mailbox's lock.

    def interrupt(self, because: str) -> bool:
        """The engine was lost: a notice is to be written. False if one waits to be written already."""
        waits = self._notice is not None
        self._notice = because
        return not waits

    def take_notice(self) -> bytes | None:
        """The ``stream/interrupted`` that waits: it names the last delta that was written before it."""
        because, self._notice = self._notice, None
        if because is None or self.id is None:
            return None
        notice = StreamInterrupted(stream=self.id, because=because, last_seq=self.last_seq)
        return encode_notification("stream/interrupted", notice)

    @property
    def pending(self) -> bool:
        """Whether the host has not been sent all there is."""
        return self._sent != self.transcript.published

    @property
    def unsaid(self) -> bool:
        """Whether there is text that the host has not been sent."""
        return self._sent[0] < self.transcript.published[0]

    @property
    def window_open(self) -> bool:
        """Whether the host may be sent one more delta. The last ones wait for no ack: nothing of the stream follows."""
        # Taking deltas, on any thread, can only close it; acks, the ending and the loss of the window, on the event
        # loop, can only open it.
        # So the loop may read this without the lock: what it finds closed stays closed until it opens it itself.
        return self.window is None or self.ended.done() or len(self._begins[0]) - self._acknowledged < self.window

    def take(self) -> bytes | None:
        """The next ``stream/delta``: all that is new, within the bounds of one frame. None if nothing may be sent."""
        if not self.pending or not self.window_open:
            return None
        assert self.id is not None
        characters, tokens = self._sent
        limit = CHUNK if self.logprobs is None else self.logprobs.tokens_per_delta
        text, ids = self.transcript.read(characters, tokens, limit)
        seq = len(self._begins[0])
        self._begins[0].append(characters)
        self._begins[1].append(tokens)
        self._sent = (characters + len(text), tokens + len(ids))
        self._taken_at = time.monotonic()
        delta = StreamDelta(stream=self.id, seq=seq, offset=characters, text=text, tokens=ids)
        if self.logprobs is None:
            return encode_notification("stream/delta", delta)
        return encode_notification("stream/delta", WithLogprobs(delta, self.logprobs.encode(ids, tokens)))
