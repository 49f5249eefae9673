"""Deltas cut a stream into messages for its host; they know which parts were sent and which is next."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

from mlx_sidecar_protocol.model import StreamId

from ..stream_events import Delta, Notice
from .logprobs import Logprobs
from .transcript import CHUNK, Transcript


class Deltas:
    """Numbered deltas of one transcript. A ``Source`` of the mailbox: they are taken when the host reads.

    ``name`` is the host's for the stream; ``min_interval_s`` is the least time between two of them, ``window`` how many
    may go unacknowledged until the stream has ended. ``logprobs`` is there if they were asked for.
    """

    # Any thread takes, under the mailbox's lock. All else happens on the event loop, under that lock for fields that
    # ``take`` reads.

    def __init__(
        self,
        name: StreamId,
        transcript: Transcript,
        logprobs: Logprobs | None,
        ended: Callable[[], bool],
        *,
        min_interval_s: float = 0.0,
        window: int | None = None,
    ) -> None:
        self.name = name
        self.window = window
        self._transcript = transcript
        self._logprobs = logprobs
        self._ended = ended
        self._min_interval_s = min_interval_s
        self._limit = CHUNK if logprobs is None else logprobs.tokens_per_delta
        # Where each delta began, by its number: characters and tokens before it.
        self._begins = (array("Q"), array("Q"))
        self._sent = (0, 0)
        self._taken_at = 0.0
        self._acknowledged = 0  # deltas

    @property
    def next_at(self) -> float:
        """When, on the monotonic clock, the host wants its next delta; 0 if at once."""
        return self._taken_at + self._min_interval_s if self._begins[0] and self._min_interval_s else 0.0

    @property
    def last_seq(self) -> int | None:
        """Number of the last delta that was taken; None before the first."""
        return len(self._begins[0]) - 1 if self._begins[0] else None

    @property
    def pending(self) -> bool:
        """Whether there is anything that the host has not been sent."""
        return self._sent != self._transcript.published

    @property
    def unsaid(self) -> bool:
        """Whether there is text that the host has not been sent."""
        return self._sent[0] < self._transcript.published[0]

    @property
    def window_open(self) -> bool:
        """Whether the host may be sent one more delta. The last ones wait for no ack: nothing of the stream follows."""
        # Taking deltas, on any thread, can only close it; acks, the ending and the loss of the window, on the event
        # loop, can only open it.
        # So the loop may read this without the lock: a window found closed stays closed until the loop opens it.
        return self.window is None or self._ended() or len(self._begins[0]) - self._acknowledged < self.window

    def rewind(self, after_seq: int | None) -> None:
        """Let the next delta begin behind delta ``after_seq`` again, or at the start."""
        following = 0 if after_seq is None else after_seq + 1
        characters, tokens = self._begins
        if following < len(characters):
            self._sent = (characters[following], tokens[following])

    def acknowledge(self, seq: int) -> None:
        """The host has read the deltas up to number ``seq``, which must have been taken. An earlier ack stays."""
        self._acknowledged = max(self._acknowledged, seq + 1)

    def take(self) -> Delta | None:
        """The next delta: all that is new of a channel, within the bounds of one frame. None if none may be sent."""
        if not self.pending or not self.window_open:
            return None
        characters, tokens = self._sent
        new = self._transcript.read(characters, tokens, self._limit)
        seq = len(self._begins[0])
        self._begins[0].append(characters)
        self._begins[1].append(tokens)
        self._sent = (characters + len(new.text), tokens + len(new.tokens))
        self._taken_at = time.monotonic()
        return Delta(
            stream=self.name,
            seq=seq,
            channel=new.channel,
            offset=new.offset,
            text=new.text,
            tokens=new.tokens,
            text_offset=new.text_offset,
            head=new.head,
            logprobs=None if self._logprobs is None else list(self._logprobs.entries(new.tokens, tokens)),
        )


class Notices:
    """Tells the host that the engine behind a stream was lost. A ``Source`` of the mailbox, beside the deltas.

    So a notice waits for no interval and no window. It names the last delta that was written before it.
    """

    def __init__(self, deltas: Deltas) -> None:
        self._deltas = deltas
        self._because: str | None = None  # the reason of a loss that the host has not been told

    def interrupt(self, because: str) -> None:
        """Under the mailbox's lock: a notice is to be taken. It replaces one that still waits."""
        self._because = because

    def take(self) -> Notice | None:
        because, self._because = self._because, None
        if because is None:
            return None
        return Notice(stream=self._deltas.name, because=because, last_seq=self._deltas.last_seq)
