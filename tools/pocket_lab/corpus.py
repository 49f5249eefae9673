"""The mixture: which source writes the next document, and the questions that are never trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from . import facts, plain, talk, tasks, tools
from .chat import Chat, Document, Plain, Probe, exchange, turn
from .project import topics
from .vary import typed

_SYSTEM = (
    "You are a helpful assistant.",
    "You are pocket, the small model inside mlx-sidecar.",
    "Answer briefly.",
    "You are a friendly assistant. Be brief.",
    "Be helpful.",
)


class Corpus:
    """An endless, seeded stream of documents. `parameters_m` (millions of parameters, e.g. "1.3") is what pocket says of itself."""

    def __init__(self, seed: int, parameters_m: str) -> None:
        self.topics = topics(parameters_m)
        self.library = plain.standard_library()
        self._rng = Random(seed)

    def documents(self) -> Iterator[Document]:
        """Documents for ever, by the weights of `_mixture`."""
        makers, weights = zip(*self._mixture(), strict=True)
        while True:
            yield self._rng.choices(makers, weights)[0](self._rng)

    def _mixture(self) -> tuple[tuple[Callable[[Random], Document], float], ...]:
        """Makers with the share of documents that each writes."""
        return (
            (self.about, 38), (facts.fact, 10), (talk.small_talk, 4), (talk.out_of_reach, 6), (talk.counting, 2), (talk.story, 0.8), (talk.memory, 3), (talk.echo, 2),
            (tasks.arithmetic, 9), (plain.sums, 2.5), (tasks.thinking, 4), (tasks.json_answer, 7), (tools.tool_chat, 7), (tools.no_tool, 1), (self.longer, 5),
            (plain.opening, 5), (plain.program, 2.5), (plain.code_chat, 1.5), (self.library_piece, 1.5),
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
        """All held-out questions, room by room."""
        own = [
            Probe("project", Chat((turn("user", text),)), topic.expect, answer=topic.answer)
            for topic in self.topics
            for text in topic.held
        ]
        return [*own, *facts.probes(), *talk.probes(), *tasks.probes(), *tools.probes()]


def held_out_code() -> list[Plain]:
    """Standard library modules that training never sees."""
    return [Plain(piece) for piece in plain.standard_library(held_out=True)]
