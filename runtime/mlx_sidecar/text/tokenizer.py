"""Reads the text side of a model directory: tokenizer, chat templates, and the few numbers that bound a request.

``tokenizer.json`` is read with the tokenizers library, without transformers, and gives the same tokens and text as
transformers' PreTrainedTokenizerFast. ``tokenizer.json`` is the truth: a few classes of transformers 5 (its
LlamaTokenizer among them) take only the vocabulary from it and treat spaces in their own way. A directory without that
file is read by ``slow.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

from ..checkpoint.file_checks import TOKENIZER_LIMIT_BYTES, is_file
from ..checkpoint.file_numbers import TOKEN_LIMIT, is_count
from ..link.token_table import TokenTable
from .controls import ControlTokens
from .escape import escaped_chat
from .files import ModelFiles
from .prompts import encode_prompt
from .special_tokens import complete
from .templates import ChatTemplates, Rendered
from .tokens import Encoder, FastTokens, read_tokenizer, token_table
from .turns import ANCHOR, MarkLost, end_of_answer, marked, without_common
from .vectors import Piece, encode_texts

# Token ids are 32 bits wide in the tokenizers library.
_TOKEN_LIMIT = 2**32


@dataclass(frozen=True, slots=True)
class TextModel:
    """Encodes and decodes texts for one model directory.

    ``vocabulary`` is the number of token ids the model knows: every id in a prompt must be below it.
    ``context_length`` is in tokens, None where no file says. ``eos_tokens`` end a turn. ``special_tokens`` maps names
    such as ``bos_token`` to their text; ``special_ids`` are the ids flagged as special. ``end`` is the one end token
    that config.json names, or else tokenizer_config.json.
    """

    name: str
    path: Path
    vocabulary: int
    context_length: int | None
    eos_tokens: frozenset[int]
    bos: int | None
    end: int | None
    special_tokens: Mapping[str, str]
    special_ids: frozenset[int]
    _tokens: Encoder
    _chat: ChatTemplates | None

    @classmethod
    def load(cls, path: Path, name: str | None = None, *, trust_remote_code: bool = False) -> TextModel:
        """Read a model directory. Blocks (0.3 s for a vocabulary of 128,000; 1–2 s more without ``tokenizer.json``).

        ``name`` is the model's name in errors. ``trust_remote_code``: run the code that comes with a tokenizer.

        Raises ModelLoadFailed for files that are missing, broken or beyond their limits, ModelUnsupported for a
        tokenizer that needs code from its own directory and may not run it.
        """
        files = ModelFiles.read(path, name or path.name)
        if is_file(path / "tokenizer.json", TOKENIZER_LIMIT_BYTES, files.name):
            tokenizer = read_tokenizer(path / "tokenizer.json", files.name)
            special_tokens = complete(tokenizer, files)
            split = bool(files.tokenizer_config.get("split_special_tokens"))
            return cls._of(files, FastTokens(tokenizer, split), special_tokens)
        from .slow import load_slow

        return cls._of(files, *load_slow(files, trust_remote_code=trust_remote_code))

    @classmethod
    def _of(cls, files: ModelFiles, tokens: Encoder, special_tokens: Mapping[str, str]) -> TextModel:
        own_end = tokens.token_id(special_tokens["eos_token"]) if "eos_token" in special_tokens else None
        named_end = files.config_value("eos_token_id")
        return cls(
            name=files.name,
            path=files.path,
            vocabulary=files.vocabulary_size or tokens.size,
            context_length=files.context_length,
            eos_tokens=files.eos_tokens | {token for token in (own_end,) if token is not None},
            bos=tokens.token_id(special_tokens["bos_token"]) if "bos_token" in special_tokens else None,
            end=named_end if is_count(named_end, TOKEN_LIMIT) else own_end,
            special_tokens=dict(special_tokens),
            special_ids=tokens.special,
            _tokens=tokens,
            _chat=ChatTemplates(files.templates, special_tokens) if files.templates else None,
        )

    @property
    def has_chat_template(self) -> bool:
        return self._chat is not None

    def mentions(self, text: str) -> bool:
        """Whether ``text`` stands in one of its chat templates."""
        return self._chat is not None and self._chat.mentions(text)

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """Token ids of ``text``. ``add_special``: with the tokenizer's special tokens around it (often a BOS).

        Special tokens written out in ``text`` become those tokens. A rendered chat holds its own BOS, so it needs
        ``add_special=False``.
        """
        return self._tokens.encode(text, add_special)

    def encode_prompt(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        """Token ids of a prompt, without a second BOS if its text begins with one.

        ``escape``: nothing of the text becomes a control token. Raises UnsupportedParameter naming ``escape_special``
        where the tokenizer does not allow that.
        """
        return encode_prompt(self._tokens, text, add_special, escape)

    def encode_texts(self, texts: Sequence[str], before: str | None, limit: int, ends: bool) -> Iterator[Piece]:
        """Tokens of each of ``texts``; see ``vectors.encode_texts``, whose errors it raises.

        ``ends``: one of the model's end tokens stands behind each.
        """
        return encode_texts(self._tokens, texts, before, limit, self.end if ends else None)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_args: Mapping[str, Any] | None = None,
        escape: bool = False,
    ) -> tuple[Rendered, list[int]]:
        """A chat as text and as token ids; see ``render``.

        ``escape``: nothing of messages, tools and variables becomes a control token. This renders several times. Raises
        UnsupportedParameter naming ``escape_special`` where the tokenizer does not allow that.
        """
        rendered = self.render(messages, tools, add_generation_prompt, template_args)
        if not escape:
            return rendered, self.encode(rendered.text, add_special=False)

        def render(given: Mapping[str, Any]) -> str:
            return self.render(given["messages"], given["tools"], add_generation_prompt, given["template_args"]).text

        given = {"messages": messages, "tools": tools, "template_args": template_args}
        escaped = escaped_chat(given, render, self._controls)
        return Rendered(escaped.text, rendered.warnings), escaped.tokens

    def behind_answer(
        self,
        text: str,
        answered: int,
        answer: Sequence[int],
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_args: Mapping[str, Any] | None = None,
        escape: bool = False,
    ) -> list[int] | None:
        """The tokens that the template writes behind message number ``answered``, which was computed as ``answer``.

        ``text`` is the whole chat's; the rest is as in ``chat``. None if they cannot be told from the answer's own.
        """
        for chat in marked(messages, answered, text):
            said = self.decode(answer) if chat.in_call else ""
            given = {"messages": chat.messages, "tools": tools, "template_args": template_args}
            begin = partial(end_of_answer, chat=chat, said=said, unmarked=text)
            with suppress(InvalidParams, MarkLost):  # the template looks into answers, or writes them in its own way
                return without_common(answer, self._end(given, add_generation_prompt, begin, escape))
        return None

    def _end(
        self, given: Mapping[str, Any], add_generation_prompt: bool, begin: Callable[[str], int], escape: bool
    ) -> list[int]:
        """The tokens of a chat from where ``begin`` tells in its text; errors of ``begin`` pass through."""

        def render(given: Mapping[str, Any]) -> str:
            return self.render(given["messages"], given["tools"], add_generation_prompt, given["template_args"]).text

        if escape:
            tokens = escaped_chat(given, render, self._controls, begin, ANCHOR).tokens
        else:
            text = render(given)
            tokens = self.encode(ANCHOR + text[begin(text) :], add_special=False)
        anchor = self.encode(ANCHOR, add_special=False)
        if tokens[: len(anchor)] != anchor:
            raise MarkLost
        return tokens[len(anchor) :]

    def decode(self, tokens: Sequence[int], skip_special: bool = False) -> str:
        """Text of ``tokens``; ids that stand for nothing give nothing.

        Raises InvalidParams naming ``tokens`` for a number that cannot be a token id.
        """
        self._check(tokens)
        return self._tokens.decode(tokens, skip_special)

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The vocabulary's own string for each token (``Ġhello``, ``▁hello``, ``<0x0A>``); empty if it has none."""
        self._check(tokens)
        return [self._tokens.token(token) or "" for token in tokens]

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_args: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """A chat as text by the model's template; see ``ChatTemplates.render``, whose errors it raises.

        Raises UnsupportedParameter naming ``messages`` if the model has no chat template.
        """
        if self._chat is None:
            raise UnsupportedParameter("messages", because="the model has no chat template")
        return self._chat.render(messages, tools, add_generation_prompt, template_args)

    def compile_templates(self) -> None:
        """Do now what the first chat would wait for; see ``ChatTemplates.compile``, whose errors it raises."""
        if self._chat is not None:
            self._chat.compile()

    def table(self) -> TokenTable:
        """The table of all tokens for other processes. Takes 0.1 s for a vocabulary of 128,000."""
        return token_table(self._tokens)

    @property
    def _controls(self) -> ControlTokens:
        if self._tokens.controls is None:
            because = "the model's tokenizer is not of the tokenizers library"
            raise UnsupportedParameter("escape_special", because=because)
        return self._tokens.controls

    def _check(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if not 0 <= token < _TOKEN_LIMIT:
                raise InvalidParams.field("tokens", f"{token} is not a token id")
