"""The open streams of all connections, by the engine's number: from what the engine says to what hosts are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import count

from mlx_sidecar_protocol.errors import InternalError, RpcError

from ...containment import LEAVING
from ...link.messages import Cancel, Pause, Resume, Tokens
from .stream import Ending, Stream

log = logging.getLogger(__name__)


class Streams:
    """Lives on the event loop. ``tell`` tells the engine what becomes of a sequence."""

    def __init__(self, tell: Callable[[Cancel | Pause | Resume], None]) -> None:
        self._tell = tell
        self._numbers = count(1)
        self._open: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def running(self) -> list[Stream]:
        """Those that are open and have not ended."""
        return [stream for stream in self._open.values() if not stream.ended.done()]

    def get(self, number: int) -> Stream | None:
        """The open stream with the engine's ``number``, unless it has ended."""
        stream = self._open.get(number)
        return None if stream is None or stream.ended.done() else stream

    def next_number(self) -> int:
        return next(self._numbers)

    def open(self, stream: Stream) -> None:
        self._open[stream.seq] = stream

    def close(self, stream: Stream) -> None:
        self._open.pop(stream.seq, None)

    def go_on(self, stream: Stream) -> None:
        """If its window is open: what was held back for it goes out, and the engine decodes on."""
        if (outbox := stream.outbox) is not None:
            with outbox.lock:
                if stream.window_open and stream.unsaid:
                    outbox.announce(stream, stream.next_delta_at)
        if stream.window_open and stream.paused and not stream.ended.done():
            stream.paused = False
            self._tell(Resume(stream.seq))

    def interrupt(self, stream: Stream, because: str) -> None:
        """The engine behind a running stream was lost: its host is told before it hears more."""
        stream.interruptions += 1
        if (outbox := stream.outbox) is None:
            return
        with outbox.lock:
            fresh = stream.interrupt(because)
        if fresh:
            outbox.put(stream.take_notice)

    # What comes of them.

    def on_tokens(self, message: Tokens) -> None:
        """New tokens from the engine."""
        stream = self.get(message.seq)
        if stream is None:
            return
        if stream.late is None:
            self._take_in(stream, message)
        else:
            stream.late.expect(message.tokens, partial(self._take_in, stream, message), partial(self._fail, stream))

    def end_of_text(self, stream: Stream, then: Callable[[], None]) -> bool:
        """Whether all text of ``stream`` is there; else ``then`` is called when it is."""
        if stream.late is None or stream.late.has_ended:
            return True
        stream.late.expect(None, then, partial(self._fail, stream))
        return False

    def _take_in(self, stream: Stream, message: Tokens) -> None:
        if stream.ended.done() or stream.stop_match is not None:
            return  # decoded before the engine heard that we are done
        try:
            said = stream.push(message.tokens, message.logprobs)
        except LEAVING:
            raise
        except BaseException:
            # One tokenizer's fault: all other streams come through the same link.
            log.exception("tokens of a stream could not be taken in")
            self._tell(Cancel(message.seq))
            self._break_off(stream)
            return
        if said and stream.outbox is not None and stream.window_open:
            stream.outbox.announce(stream, stream.next_delta_at)
        if stream.finish_reason == "stop":
            self._tell(Cancel(message.seq, "stop"))
        elif not stream.window_open and not stream.paused:
            stream.paused = True
            self._tell(Pause(message.seq))

    def finish(self, stream: Stream, ending: Ending) -> None:
        """Settle how a stream ended; later calls do nothing. What the engine says of it afterwards is nobody's."""
        try:
            stream.finish(ending)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the last text of a stream could not be made")
            self._break_off(stream)
            return
        self._announce_end(stream)

    def _fail(self, stream: Stream, error: RpcError) -> None:
        """The text of its tokens cannot be had."""
        if not stream.ended.done():
            self._tell(Cancel(stream.seq))
            self._break_off(stream, error)

    def _break_off(self, stream: Stream, error: RpcError | None = None) -> None:
        stream.break_off(Ending("error", True, stream.timing, error=error or InternalError()))
        self._announce_end(stream)

    def _announce_end(self, stream: Stream) -> None:
        if stream.outbox is not None and stream.pending:
            stream.outbox.announce(stream, stream.next_delta_at)
