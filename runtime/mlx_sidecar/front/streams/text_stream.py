"""A text stream is one generation as its host sees it: tokens in, text out, one ending."""

from __future__ import annotations

from typing import Literal

from mlx_sidecar_protocol.model import StreamId

from ...link.messages import Effort, FinishReason, TokenLogprob
from ..output.late_text import LateText
from ..output.parser import Outcome, OutputParser, PlainText, Segment
from ..output.repeat_guard import RepeatGuard
from ..output.special_stops import SpecialStops
from ..output.until_stop import Detokenizer, StopMatcher, until_stop
from .deltas import Deltas, Notices
from .effort import EffortSum
from .logprobs import Logprobs
from .task import Ending, EngineTask
from .transcript import Transcript


class TextStream:
    """Makes the transcript of a task from its tokens, on the event loop; other threads read its deltas.

    ``name`` is the host's for the stream, None if it wants no deltas; ``min_interval_s`` and ``window`` are those of
    ``Deltas``. ``logprobs`` is there if they were asked for, ``special_stops`` if a stop string names a special token.
    ``repeat_guard`` ends it with a loop; ``is_repeated`` tells that it did.
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
        repeat_guard: RepeatGuard | None = None,
    ) -> None:
        self.task = task
        self.name = name
        self.logprobs = logprobs
        self.transcript = Transcript()
        self.effort = EffortSum()
        self.stop_match: str | None = None
        self.is_repeated = False
        self.late = detokenizer if isinstance(detokenizer, LateText) else None  # its text comes later than its tokens
        self._text = until_stop(detokenizer, stops, special_stops)
        self._parser: OutputParser = parser or PlainText()
        self._repeat_guard = repeat_guard
        if self.late is not None:
            ends_anywhere = stops.looks or special_stops is not None or repeat_guard is not None
            self.late.one_by_one = ends_anywhere or self._parser.one_by_one
            self.late.tells_pending = special_stops is not None
        self.deltas: Deltas | None = None
        self.notices: Notices | None = None
        if name is not None:
            self.deltas = Deltas(
                name, self.transcript, logprobs, task.ended.done, min_interval_s=min_interval_s, window=window
            )
            self.notices = Notices(self.deltas)

    def push(self, tokens: list[int], logprobs: list[TokenLogprob] | None = None, effort: Effort | None = None) -> bool:
        """Take in the tokens of one pass. True if they completed text that the host has not seen.

        Those behind the token that completes a stop string or a loop are dropped, as if the pass had given no more.
        """
        if self.task.first_token_at is None:
            self.task.begin()
        segments, count = self._parsed(tokens)
        if self.logprobs is not None:
            assert logprobs is not None
            assert len(logprobs) == len(tokens)
            self.logprobs.append(logprobs[:count])  # before the tokens: those are published
        tokens = tokens[:count]
        self.effort.add(tokens, effort)
        self.transcript.append(segments, tokens)
        return bool(segments)

    def _parsed(self, tokens: list[int]) -> tuple[list[Segment], int]:
        """The segments that ``tokens`` complete, and how many of them were taken until something ended the text."""
        segments, count = list[Segment](), 0
        looped = None if self._repeat_guard is None else self._repeat_guard.read(tokens)
        tokens = tokens[:looped]
        while count < len(tokens) and self.stop_match is None:
            given = tokens[count : count + 1] if self._parser.one_by_one else tokens[count:]
            text, self.stop_match, taken = self._text.push(given)
            segments += self._parser.push(text, given[:taken])
            count += taken
        self.is_repeated = looped is not None and self.stop_match is None  # a loop may be part of a stop string
        return segments, count

    def finish(self, ending: Ending) -> None:
        """Release the text held back and settle the ending. Later calls do nothing."""
        if self.task.ended.done():
            return
        tail = ""
        if self.stop_match is None:
            # Behind a loop the engine may have decoded on, or not.
            tail, self.stop_match = self._text.finish(None if self.is_repeated else ending.stop_token)
        cut = self.is_cut or ending.reason != "stop"
        self.transcript.append([*self._parser.push(tail, []), *self._parser.finish(cut=cut)], [])
        self.task.settle(ending)

    def break_off(self, ending: Ending) -> None:
        """Settle the ending with the text published so far: more cannot be made. Later calls do nothing."""
        if not self.task.ended.done():
            self.stop_match, self.is_repeated = None, False
            self.task.settle(ending)

    @property
    def is_cut(self) -> bool:
        """Whether a stop string or a loop was found, behind which nothing more is taken in."""
        return self.stop_match is not None or self.is_repeated

    @property
    def finish_reason(self) -> FinishReason | Literal["repeated"] | None:
        """None while it runs. A stop string or a loop that was found counts, whatever became of the engine after it."""
        ended = self.task.ended
        if self.is_cut:
            return "stop" if self.stop_match is not None else "repeated"
        if ended.cancelled():  # its request no longer waited for it
            return "cancelled"
        return ended.result().reason if ended.done() else None

    @property
    def outcome(self) -> Outcome:
        """The finds of its parser."""
        return self._parser.outcome

    @property
    def last_seq(self) -> int | None:
        """Number of the last delta that was taken; None before the first."""
        return None if self.deltas is None else self.deltas.last_seq
