"""The feed gives a text stream the engine's messages, and tells the mailbox and the engine of the outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from mlx_sidecar_protocol.errors import InternalError, RpcError

from ...containment import LEAVING
from ...link.messages import Cancel, Pause, Resume, Tokens
from .deltas import Deltas, Notices
from .task import Ending
from .text_stream import TextStream

log = logging.getLogger(__name__)

Tell = Callable[[Cancel | Pause | Resume], None]


class Outbox(Protocol):
    """The place where deltas and notices go: the mailbox of the wire."""

    @property
    def lock(self) -> AbstractContextManager[Any]: ...
    def announce(self, source: Deltas | Notices, not_before: float = 0.0) -> None: ...


class Feed:
    """The ``Listener`` of a text stream. ``tell`` sends the engine a message about its sequence."""

    def __init__(self, stream: TextStream, outbox: Outbox, tell: Tell) -> None:
        self._stream = stream
        self._outbox = outbox
        self._tell = tell

    @property
    def emitted(self) -> list[int]:
        return self._stream.transcript.tokens

    def on_tokens(self, message: Tokens) -> None:
        late = self._stream.late
        if late is None:
            self._take_in(message)
        else:
            late.expect(message.tokens, partial(self._take_in, message), self._fail)

    def end_of_text(self, then: Callable[[], None]) -> bool:
        late = self._stream.late
        if late is None or late.has_ended:
            return True
        late.expect(None, then, self._fail)
        return False

    def discard(self) -> None:
        if self._stream.late is not None:
            self._stream.late.discard()

    def on_interrupted(self, because: str) -> None:
        notices = self._stream.notices
        if notices is None:
            return
        with self._outbox.lock:
            notices.interrupt(because)
        self._outbox.announce(notices)

    def finish(self, ending: Ending) -> None:
        try:
            self._stream.finish(ending)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the last text of a stream could not be made")
            self._break_off()
            return
        self._announce_end()

    def _take_in(self, message: Tokens) -> None:
        stream, task, deltas = self._stream, self._stream.task, self._stream.deltas
        if task.ended.done() or stream.is_cut:
            return  # decoded before the engine heard that we are done
        try:
            said = stream.push(message.tokens, message.logprobs, message.effort)
        except LEAVING:
            raise
        except BaseException:
            # One tokenizer's fault: all other streams come through the same link.
            log.exception("tokens of a stream could not be taken in")
            self._tell(Cancel(message.seq))
            self._break_off()
            return
        if said and deltas is not None and deltas.window_open:
            self._outbox.announce(deltas, deltas.next_at)
        if stream.finish_reason in ("stop", "repeated"):
            self._tell(Cancel(message.seq, "stop"))
        elif deltas is not None and not deltas.window_open and not task.paused:
            self._tell(Pause(message.seq))

    def _fail(self, error: RpcError) -> None:
        """The text of its tokens cannot be had."""
        if not self._stream.task.ended.done():
            self._tell(Cancel(self._stream.task.seq))
            self.finish(self._ending(error))

    def _break_off(self) -> None:
        self._stream.break_off(self._ending(InternalError()))
        self._announce_end()

    def _ending(self, error: RpcError) -> Ending:
        return Ending(reason="error", started=True, timing=self._stream.task.timing, error=error)

    def _announce_end(self) -> None:
        deltas = self._stream.deltas
        if deltas is not None and deltas.pending:
            self._outbox.announce(deltas, deltas.next_at)
