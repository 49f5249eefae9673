"""Scores a model by its answers to held-out questions, and by its loss on held-out text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import qwen3
from mlx_lm.models.cache import make_prompt_cache
from tokenizers import Tokenizer

from .chat import Document, Probe
from .encode import Encoder, Template

ANSWER_LIMIT = 160


@dataclass(frozen=True)
class Score:
    """Right and asked questions by source, the number of answers that ended by themselves, and losses in nats/token."""

    rooms: dict[str, tuple[int, int]]
    ended: int
    answer_loss: float
    code_loss: float

    @property
    def asked(self) -> int:
        """The number of all questions."""
        return sum(asked for _, asked in self.rooms.values())

    def lines(self) -> list[str]:
        """The score as lines of a table."""
        table = [f"| {room} | {right} / {asked} |" for room, (right, asked) in self.rooms.items()]
        return [
            "| held-out questions | right |", "|---|---|", *table, f"| answers that end by themselves | {self.ended} / {self.asked} |",
            f"| loss on the reference answers to held-out questions | {self.answer_loss:.3f} nats a token |",
            f"| loss on held-out standard library code | {self.code_loss:.3f} nats a token |",
        ]  # fmt: skip


class Speaker:
    """A model with its tokenizer and template, for greedy answers and losses in float32."""

    def __init__(self, model: Any, tokenizer: Tokenizer, template: Template, end_tokens: Iterable[int]) -> None:
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.encoder = Encoder(tokenizer, template)
        self._ends = frozenset(end_tokens)

    @classmethod
    def load(cls, directory: Path) -> Speaker:
        """The model of a directory as `tools/train_pocket.py` writes it, its weights widened to float32."""
        import json

        config = json.loads((directory / "config.json").read_text("utf-8"))
        model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
        weights = mx.load(str(directory / "model.safetensors"))
        assert isinstance(weights, dict)
        model.load_weights([(path, weight.astype(mx.float32)) for path, weight in weights.items()])
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        return cls(model, tokenizer, Template(directory / "chat_template.jinja"), config["eos_token_id"])

    def complete(self, prompt: str, limit: int = ANSWER_LIMIT) -> tuple[str, int | None]:
        """The greedy continuation of `prompt`, and the end token that closed it (None: the limit did)."""
        cache = make_prompt_cache(self.model)
        feed, written = self.encoder.ids(prompt), list[int]()
        while len(written) < limit:
            logits = self.model(mx.array([feed]), cache=cache)[0, -1]
            token: Any = mx.argmax(logits).tolist()
            if token in self._ends:
                return self.tokenizer.decode(written, skip_special_tokens=False), token
            written.append(token)
            feed = [token]
        return self.tokenizer.decode(written, skip_special_tokens=False), None

    def loss(self, documents: Iterable[Document]) -> float:
        """Mean cross-entropy over the learned tokens of `documents`."""
        total, counted = 0.0, 0
        for document in documents:
            encoded = self.encoder.encode(document)
            positions = mx.array([at for at in range(len(encoded.tokens) - 1) if encoded.learned[at + 1]])
            logits = self.model(mx.array([encoded.tokens[:-1]]))[0][positions]
            answers = mx.array(encoded.tokens[1:])[positions]
            nats: Any = nn.losses.cross_entropy(logits, answers, reduction="sum").tolist()
            total += nats
            counted += positions.size
        return total / counted


def score(
    speaker: Speaker,
    probes: Sequence[Probe],
    answers: Sequence[Document],
    code: Sequence[Document],
    show_wrong: bool = True,
) -> Score:
    """Asks every probe greedily. `answers` and `code` are the texts of the two losses."""
    rooms: dict[str, list[bool]] = defaultdict(list)
    ended = 0
    for probe in probes:
        answer, end = speaker.complete(speaker.template.prompt(probe.chat))
        right = end is not None and probe.passes(answer)
        rooms[probe.room].append(right)
        ended += end is not None
        if show_wrong and not right:
            print(f"  wrong [{probe.room}] {probe.chat.messages[-1]['content']!r} -> {answer!r}")
    table = {room: (sum(results), len(results)) for room, results in rooms.items()}
    return Score(table, ended, speaker.loss(answers), speaker.loss(code))
