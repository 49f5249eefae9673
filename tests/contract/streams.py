"""The promises about the deltas of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .expected import Asked, Message

Json = dict[str, Any]


class Broken(AssertionError):
    """A promise was broken."""


def demand(condition: object, why: str) -> None:
    """Raise Broken unless ``condition`` holds."""
    if not condition:
        raise Broken(why)


@dataclass
class Run:
    """One stream from its first delta on. ``acks``: (delta, request) of each; None for those sent as notifications."""

    over: bool = False
    count: int = 0
    text: str = ""
    place: int = 0  # offset of the next delta, in characters
    begins: list[int] = field(default_factory=list)
    rewinds: list[int] = field(default_factory=list)  # the deltas from which subscriptions want to begin again
    subscriptions: int = 0
    acks: list[tuple[int, Asked | None]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)  # deltas without an ack, after each
    pieces: list[tuple[list[int], list[int]]] = field(default_factory=list)  # tokens; the deltas they may begin with
    logprobs: list[Any] = field(default_factory=list)

    def take(self, delta: Json) -> None:
        """Judge the next delta. Raises Broken."""
        seq, offset, text = delta["seq"], delta["offset"], delta["text"]
        demand(seq == self.count, f"delta {seq} where {self.count} is due")
        froms = self._rewind_to(offset)
        demand(froms, f"delta {seq} at {offset}, but {self.place} characters were before it")
        known = self.text[offset : offset + len(text)]
        demand(text.startswith(known), f"delta {seq} says {text!r} where {known!r} was said before")
        demand(offset <= len(self.text), f"delta {seq} leaves out characters")
        demand(text == known or not self.over, f"delta {seq} says something new after the answer")
        self.text += text[len(known) :]
        self.place = offset + len(text)
        self.begins.append(offset)
        self.count += 1
        self.pieces.append((delta["tokens"], froms))
        self.logprobs += delta.get("logprobs", [])
        self._judge_window(seq)

    def hear(self, message: Message) -> None:
        """Note an ack or a subscription that was written; later deltas show whether and when it was taken."""
        params = message.params or {}
        if message.method == "stream/ack":
            self.acks.append((params["seq"], message if isinstance(message, Asked) else None))
        else:
            after = params.get("after_seq")
            self.rewinds.append(0 if after is None else after + 1)
            self.subscriptions += 1

    @property
    def goes_back(self) -> bool:
        """Whether text is still to be sent again."""
        return bool(self.rewinds) or self.place < len(self.text)

    def _rewind_to(self, offset: int) -> list[int]:
        """Return the deltas from which this one may begin again; its own number if it just goes on."""
        back = [begin for begin in self.rewinds if begin < self.count and self.begins[begin] == offset]
        if offset == self.place:
            return [self.count, *back]
        if back:  # earlier subscriptions were taken before it
            del self.rewinds[: self.rewinds.index(back[0]) + 1]
        return back

    def _judge_window(self, seq: int) -> None:
        read = [ack for ack, asked in self.acks if ack < seq and not (asked and asked.failed)]
        self.waiting.append(self.count - 1 - max(read, default=-1))

    # At its end.

    def tokens_fit(self, tokens: list[int]) -> bool:
        """Whether the deltas have exactly these tokens, each in its place."""
        begins: list[set[int]] = []
        ends = {0}
        for piece, froms in self.pieces:
            here = {at for begin in froms for at in (begins[begin] if begin < len(begins) else ends)}
            here = {at for at in here if tokens[at : at + len(piece)] == piece}
            begins.append(here)
            ends = {at + len(piece) for at in here}
        return len(tokens) in ends

    def judge_end(self, params: Json, result: Json, *, windows: bool) -> None:
        """Judge the stream when its answer has come. Raises Broken."""
        self.over = True
        last = result.get("last_seq")
        demand(last == (self.count - 1 if self.count else None), f"last_seq is {last} after {self.count} deltas")
        demand(self.place == len(self.text), "the answer came before all had been sent again")
        if params.get("echo_text") is not False:
            demand(result["text"] == self.text, f"the deltas said {self.text!r}, the answer {result['text']!r}")
            demand(self.tokens_fit(result["tokens"]), "the deltas had other tokens than the answer")
            if not self.subscriptions and "logprobs" in result:
                demand(self.logprobs == result["logprobs"], "the deltas had other log probabilities than the answer")
        if windows and params.get("window") is not None:
            self._judge_beyond(params)

    def _judge_beyond(self, params: Json) -> None:
        """Allow only the rest of an ended stream beyond the window: one delta, or a few of bounded length."""
        beyond = sum(waiting > params["window"] for waiting in self.waiting)
        tokens = sum(len(piece) for piece, _ in self.pieces)
        per_delta = 4096 if params.get("logprobs") is None else 512 // (params["logprobs"] + 1)
        allowed = (1 + tokens // per_delta) * (1 + self.subscriptions)
        demand(beyond <= allowed, f"{beyond} deltas beyond the window of {params['window']}")
