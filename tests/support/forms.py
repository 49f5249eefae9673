"""Whether texts belong to a grammar, by llguidance itself over the bytes of a small vocabulary."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from mlx_sidecar.link.forms import REASONING_BEGIN, REASONING_END, JsonForm, Reasoning, Thought
from mlx_sidecar.text.forms.grammars import grammar_of

END = 256


class _Bytes:
    """A tokenizer whose tokens are bytes, and one that ends."""

    eos_token_id = END
    bos_token_id = None

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(END)), b"\xff<end>"]
        self.special_token_ids = [END]

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@cache
def _tokenizer() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()), slices=[])


def accepts(grammar: str, text: str) -> bool:
    """Whether ``text`` is a whole text of ``grammar``."""
    matcher = LLMatcher(_tokenizer(), grammar)
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return bool(matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens)) and (
        matcher.is_accepting()
    )


def json_form(schema: Any, *, fixed: bool = True) -> JsonForm:
    return JsonForm(json.dumps(schema).encode(), ["response_format", "schema"], fixed)


def thought(reasoning: Reasoning) -> Thought:
    """Reasoning between the usual markers, as texts."""
    return Thought() if reasoning == "none" else Thought(reasoning, [REASONING_BEGIN], [REASONING_END])


def schema_grammar(schema: Any, reasoning: Reasoning = "none", *, fixed: bool = True) -> str:
    return grammar_of(json_form(schema, fixed=fixed), thought(reasoning))
