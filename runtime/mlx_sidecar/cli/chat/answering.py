"""One answer on its way to the screen: how far its prompt is, its text, its end."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from ...host import Frame, Host
from ..terminal import answer, counted
from .markdown_stream import MarkdownStream

_SHOWN_CHARACTERS = 50  # of reasoning, in the line that is drawn anew with each delta


class PrefillWatch:
    """Shows how many tokens of a prompt have been read, while a first token is awaited.

    The sidecar's own counters say it. They are those of all its requests, and this one is the only.
    """

    every_s = 0.2

    def __init__(self, stream: MarkdownStream) -> None:
        self._stream = stream
        self._before: dict[str, int] | None = None
        self._asked = False
        self.over = False  # whether the text has begun

    def begin(self, host: Host) -> None:
        """Note where the counters stand before the request."""
        self._before = host.call("stats")["counters"]

    def waited(self, host: Host) -> None:
        if not (self._asked or self.over):
            self._asked = True
            host.send("stats")

    def answered(self, frame: Frame) -> None:
        self._asked = False
        counters = frame.get("result", {}).get("counters")
        if counters is None or self._before is None or self.over:
            return
        gained = {name: counters.get(name, 0) - self._before.get(name, 0) for name in counters}
        total, done = gained.get("prompt_tokens", 0), gained.get("prefill_tokens", 0) + gained.get("cached_tokens", 0)
        self._stream.status(f"reading the prompt: {done:,} of {total:,} tokens" if total else "waiting for the model")


class FoldedReasoning:
    """Shows the latest words of the reasoning, dimmed, while it comes; when it ends a line stands for all of it."""

    def __init__(self, stream: MarkdownStream) -> None:
        self._stream = stream
        self._text = ""  # the end of it
        self._tokens = 0  # with those of its markers

    def push(self, delta: dict[str, Any]) -> None:
        """Take a delta of any channel: one of another is the end of the reasoning."""
        if (text := delta.get("reasoning")) is None:
            self.end()
            return
        self._text = (self._text + text)[-_SHOWN_CHARACTERS:]
        self._tokens += len(delta["tokens"])
        self._stream.status(f"reasoning: … {' '.join(self._text.split())}", quickly=True)

    def end(self) -> None:
        """Leave a line in the place of the reasoning, if there was any."""
        if self._text:
            self._stream.stand(f"reasoned, about {counted(self._tokens, 'token')}")
            self._text, self._tokens = "", 0


class AnswerScreen:
    """Streams answers: as Markdown on a terminal that can be drawn on, else as they come."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, emoji=False)
        self._draws = self._console.is_terminal and not self._console.is_dumb_terminal

    def stream(self, host: Host, params: dict[str, Any]) -> dict[str, Any]:
        """Stream one answer to stdout; returns the result. Ctrl-C cancels it."""
        if not self._draws:
            return answer(host, params, quiet=True)
        stream = MarkdownStream(self._console)
        watch, reasoning = PrefillWatch(stream), FoldedReasoning(stream)

        def push(delta: dict[str, Any]) -> None:
            watch.over = True
            reasoning.push(delta)
            stream.push(delta["text"])

        watch.begin(host)
        try:
            return host.generate(params, push, watch)
        finally:
            reasoning.end()
            stream.finish()
