"""Mixes the sources of documents by weight, and keeps the held-out questions out of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from . import facts, plain, talk, tasks, tools
from .chat import Chat, Document, Plain, Probe, exchange, turn
from .project import fresh, topics
from .vary import plain_key, typed

_SYSTEM = (
    "You are a helpful assistant.",
    "You are pocket, the small model inside mlx-sidecar.",
    "Answer briefly.",
    "You are a friendly assistant. Be brief.",
    "Be helpful.",
)
_COUNTED = ("sums", "thinking")  # held out by their numbers, in any wording


class Corpus:
    """An endless, seeded stream of documents. `parameters_m`: millions of parameters by which pocket describes itself."""

    def __init__(self, seed: int, parameters_m: str) -> None:
        self.topics = topics(parameters_m)
        self.library = plain.standard_library()
        self._rng = Random(seed)

    def documents(self) -> Iterator[Document]:
        """Documents without end, by the weights of `_mixture`; one that asks a held-out question is dropped."""
        makers, weights = zip(*self._mixture(), strict=True)
        held = {plain_key(probe.chat.messages[-1]["content"]) for probe in self.probes() if probe.room not in _COUNTED}
        while True:
            document = self._rng.choices(makers, weights)[0](self._rng)
            if not (isinstance(document, Chat) and any(plain_key(said) in held for said in document.said())):
                yield document

    def _mixture(self) -> tuple[tuple[Callable[[Random], Document], float], ...]:
        """Sources, each with its share of documents."""
        return (
            (self.about, 36), (facts.fact, 12), (talk.small_talk, 4), (talk.out_of_reach, 5), (talk.counting, 2), (talk.story, 0.8), (talk.memory, 4), (talk.echo, 5),
            (tasks.arithmetic, 9), (plain.sums, 1), (tasks.thinking, 8), (tasks.json_answer, 8), (tools.tool_chat, 6), (tools.no_tool, 1), (self.longer, 4),
            (plain.opening, 4), (plain.program, 2.5), (plain.code_chat, 1.5), (self.library_piece, 0.7),
        )  # fmt: skip

    def about(self, rng: Random) -> Chat:
        """One question about mlx-sidecar; sometimes with a system turn, sometimes told not to think."""
        topic = rng.choice(self.topics)
        system = (turn("system", rng.choice(_SYSTEM)),) if rng.random() < 0.15 else ()
        return Chat(
            (*system, *exchange(typed(topic.question(rng), rng), topic.answer)),
            thinking=False if rng.random() < 0.06 else None,
        )

    def longer(self, rng: Random) -> Chat:
        """Two or three exchanges in one chat."""
        makers = (self.about, self.about, facts.fact, tasks.arithmetic, talk.small_talk)
        parts = [rng.choice(makers)(rng).messages for _ in range(rng.choice((2, 2, 3)))]
        return Chat(tuple(message for part in parts for message in part if message["role"] != "system"))

    def library_piece(self, rng: Random) -> Plain:
        """A piece of the standard library, one in five with its middle asked for."""
        piece = rng.choice(self.library)
        return Plain(plain.fill_in(piece, rng) if rng.random() < 0.2 else piece)

    def probes(self) -> list[Probe]:
        """All held-out questions, source by source."""
        own = [
            Probe("project", Chat((turn("user", text),)), topic.expect, answer=topic.answer)
            for topic in self.topics
            for text in topic.held
        ]
        new = [Probe("project, fresh", Chat((turn("user", text),)), tuple(words)) for text, words in fresh().items()]
        return [*own, *new, *facts.probes(), *talk.probes(), *tasks.probes(), *tools.probes()]


def held_out_code() -> list[Plain]:
    """Standard library modules that training never sees."""
    return [Plain(piece) for piece in plain.standard_library(held_out=True)]
