"""Turns documents into rows of tokens, with a mark on each token that is to be learned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .chat import Chat, Document, Message
from .plain import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (END_OF_TEXT, TURN_START, TURN_END, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)
VISIBLE = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# One digit is one token, as sums need it; words carry their leading space.
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE over `texts` with all 256 bytes, so that any text encodes and decodes to itself."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(name, special=name in CONTROL, normalized=False) for name in CONTROL + VISIBLE]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=added,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in VISIBLE])
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token. Raises KeyError if it does not exist."""
    return tokenizer.get_vocab()[token]


class Template:
    """The chat template of the model, rendered as transformers does it."""

    def __init__(self, path: Path) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(path.read_text("utf-8"))

    def render(self, messages: Iterable[Message], tools: Iterable[dict[str, Any]] = (), **variables: bool) -> str:
        """The text of a chat; `variables` are `add_generation_prompt` and `enable_thinking`."""
        return self._template.render(messages=list(messages), tools=list(tools), **variables)

    def prompt(self, chat: Chat) -> str:
        """The text before the model's last message of `chat`, or before its answer if the user spoke last."""
        asked = chat.messages[:-1] if chat.messages[-1]["role"] == "assistant" else chat.messages
        thinking = {} if chat.thinking is None else {"enable_thinking": chat.thinking}
        return self.render(asked, chat.tools, add_generation_prompt=True, **thinking)

    def reply(self, chat: Chat) -> str:
        """The text that the model should write after `prompt(chat)`, with its end of turn."""
        before = self.render(chat.messages[:-1], chat.tools, add_generation_prompt=True)
        reply = self.render(chat.messages, chat.tools)[len(before) :].removesuffix("\n")
        return reply.removeprefix("<think>\n") if chat.thinking else reply


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)


@dataclass(frozen=True)
class Encoded:
    """Tokens of a document; `learned[i]` says whether token `i` is to be predicted."""

    tokens: list[int]
    learned: list[bool]


class Encoder:
    """Encodes documents as tokens, with marks on those that are learned."""

    def __init__(self, tokenizer: Tokenizer, template: Template) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._end = [token_id(tokenizer, END_OF_TEXT)]
        self._turn_end = token_id(tokenizer, TURN_END)
        self._opening = self.ids(f"{TURN_START}assistant\n")

    def ids(self, text: str) -> list[int]:
        """Tokens of `text`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, document: Document) -> Encoded:
        """Encode a document; of a chat the assistant's turns are learned, of plain text all tokens."""
        if not isinstance(document, Chat):
            tokens = self.ids(document.text) + self._end
            return Encoded(tokens, [True] * len(tokens))
        prompt, reply = self.ids(self._template.prompt(document)), self.ids(self._template.reply(document))
        tail = self.ids("\n") + self._end
        learned = self._earlier_turns(prompt) + [True] * len(reply) + [False] * len(tail)
        return Encoded(prompt + reply + tail, learned)

    def _earlier_turns(self, prompt: list[int]) -> list[bool]:
        """Marks the finished assistant turns inside `prompt`."""
        learned = [False] * len(prompt)
        width, at = len(self._opening), 0
        while at < len(prompt):
            if prompt[at : at + width] != self._opening or self._turn_end not in prompt[at + width :]:
                at += 1
                continue
            end = prompt.index(self._turn_end, at + width)
            learned[at + width : end + 1] = [True] * (end + 1 - at - width)
            at = end
        return learned


@dataclass(frozen=True)
class Batch:
    """`tokens` is rows × width; `targets` are flat positions (row * width + column) whose next token is learned."""

    tokens: list[list[int]]
    targets: list[int]
    answers: list[int]


def batches(documents: Iterator[Encoded], widths: tuple[int, ...], tokens_per_batch: int) -> Iterator[Batch]:
    """Packs whole documents into rows of the narrowest width that holds them, and rows of one width into batches.

    Rows are filled in order; a document that does not fit starts a new row. One wider than all widths is cut.
    """
    rows: dict[int, list[Encoded]] = {width: [] for width in widths}
    open_row: dict[int, Encoded] = {width: Encoded([], []) for width in widths}
    for document in documents:
        width = next((w for w in widths if len(document.tokens) <= w), widths[-1])
        row = open_row[width]
        if len(row.tokens) + min(len(document.tokens), width) > width:
            rows[width].append(row)
            row = Encoded([], [])
        open_row[width] = Encoded((row.tokens + document.tokens)[:width], (row.learned + document.learned)[:width])
        if len(rows[width]) * width >= tokens_per_batch:
            yield _batch(rows[width], width)
            rows[width] = []


def _batch(rows: list[Encoded], width: int) -> Batch:
    tokens, targets, answers = [], [], []
    for at, row in enumerate(rows):
        tokens.append(row.tokens + [0] * (width - len(row.tokens)))
        for column in range(len(row.tokens) - 1):
            if row.learned[column + 1]:
                targets.append(at * width + column)
                answers.append(row.tokens[column + 1])
    return Batch(tokens, targets, answers)
