"""A text stream is one generation as its host sees it: tokens in, text out, one ending."""

from __future__ import annotations

from mlx_sidecar_protocol.model import StreamId

from ...link.messages import FinishReason, TokenLogprob
from ..output.late_text import LateText
from ..output.parser import OutputParser, PlainText
from ..output.special_stops import SpecialStops
from ..output.until_stop import Detokenizer, StopMatcher, until_stop
from .deltas import Deltas, Notices
from .logprobs import Logprobs
from .task import Ending, EngineTask
from .transcript import Transcript


class TextStream:
    """Makes the transcript of a task from its tokens, on the event loop; other threads read its deltas.

    ``name`` is the host's for the stream, None if it wants no deltas; ``min_interval_s`` and ``window`` are those of
    ``Deltas``. ``logprobs`` is there if they were asked for, ``special_stops`` if a stop string names a special token.
    """

    def __init__(
        self,
        task: EngineTask,
        name: StreamId | None,
        detokenizer: Detokenizer,
        stops: StopMatcher,
        *,
        min_interval_s: float = 0.0,
        window: int | None = None,
        logprobs: Logprobs | None = None,
        special_stops: SpecialStops | None = None,
        parser: OutputParser | None = None,
    ) -> None:
        self.task = task
        self.name = name
        self.logprobs = logprobs
        self.transcript = Transcript()
        self.stop_match: str | None = None
        self.late = detokenizer if isinstance(detokenizer, LateText) else None  # its text comes later than its tokens
        if self.late is not None:
            self.late.one_by_one = special_stops is not None
        self._text = until_stop(detokenizer, stops, special_stops)
        self._parser = parser or PlainText()
        self.deltas: Deltas | None = None
        self.notices: Notices | None = None
        if name is not None:
            self.deltas = Deltas(
                name, self.transcript, logprobs, task.ended.done, min_interval_s=min_interval_s, window=window
            )
            self.notices = Notices(self.deltas)

    def push(self, tokens: list[int], logprobs: list[TokenLogprob] | None = None) -> bool:
        """Take in new tokens. True if they completed text that the host has not seen."""
        if self.task.first_token_at is None:
            self.task.begin()
        text, self.stop_match = self._text.push(tokens)
        segments = self._parser.push(text, tokens)
        if self.logprobs is not None:
            assert logprobs is not None
            assert len(logprobs) == len(tokens)
            self.logprobs.append(logprobs)  # before the tokens: those are published
        self.transcript.append(segments, tokens)
        return bool(segments)

    def finish(self, ending: Ending) -> None:
        """Release the text held back and settle the ending. Later calls do nothing."""
        if self.task.ended.done():
            return
        tail = ""
        if self.stop_match is None:
            tail, self.stop_match = self._text.finish(ending.stop_token)
        self.transcript.append([*self._parser.push(tail, []), *self._parser.finish()], [])
        self.task.settle(ending)

    def break_off(self, ending: Ending) -> None:
        """Settle the ending with the text published so far: more cannot be made. Later calls do nothing."""
        if not self.task.ended.done():
            self.stop_match = None
            self.task.settle(ending)

    @property
    def finish_reason(self) -> FinishReason | None:
        """None while it runs. A stop string that was found counts, whatever became of the engine after it."""
        ended = self.task.ended
        if self.stop_match is not None:
            return "stop"
        if ended.cancelled():  # its request no longer waited for it
            return "cancelled"
        return ended.result().reason if ended.done() else None

    @property
    def last_seq(self) -> int | None:
        """Number of the last delta that was taken; None before the first."""
        return None if self.deltas is None else self.deltas.last_seq
