"""Texts of models without a text process: its work and the front's, in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.output.detokenizer import Detokenizer, Detokenizers
from mlx_sidecar.front.output.window import Decoding, Window
from mlx_sidecar.link.messages import Nearest
from mlx_sidecar.link.token_table import TokenTable
from mlx_sidecar.text.cache_miss import Given, explain
from mlx_sidecar.text.templates import Rendered
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.generate_result import CacheExplanation

Decode = Callable[[Sequence[int], bool], str]


class WindowDetokenizer:
    """``LateText`` with a decoder that answers at once."""

    def __init__(self, decode: Decode, skip_special: bool, window: Window) -> None:
        self._decode = decode
        self._skip_special = skip_special
        self._window = window
        self._driven(window.begin())

    def push(self, token: int) -> str:
        return self.push_many([token])

    def push_many(self, tokens: Iterable[int]) -> str:
        return self._driven(self._window.push(list(tokens)))

    def pending(self) -> str:
        return self._driven(self._window.pending())

    def finish(self) -> str:
        return self._driven(self._window.finish())

    def _driven(self, decoding: Decoding) -> str:
        try:
            runs = next(decoding)
            while True:
                runs = decoding.send([self._decode(run, self._skip_special) if run else "" for run in runs])
        except StopIteration as done:
            text: str = done.value
            return text


def detokenizer_of(
    table: TokenTable, decode: Decode, skip_special: bool = True, behind: Sequence[int] = ()
) -> Detokenizer:
    """The detokenizer for a stream of a model with this ``table``, whatever the tokenizer's family."""
    made = Detokenizers(table).new(skip_special, behind)
    return made or WindowDetokenizer(decode, skip_special, Window(table, skip_special, behind))


def detokenizer(model: TextModel, skip_special: bool = True, behind: Sequence[int] = ()) -> Detokenizer:
    return detokenizer_of(model.table(), model.decode, skip_special, behind)


class ExplainingText(FakeText):
    """The fake engine's text, for prompts of which an engine with a cache tells something."""

    async def explain(
        self, source: str, chat: object, tokens: Sequence[int], nearest: Nearest | None, uncacheable: str
    ) -> CacheExplanation:
        return explain(_Bytes(), Given("prompt"), list(tokens), nearest, uncacheable)


class _Bytes:
    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")

    def render(self, messages: object, tools: object, add_generation_prompt: bool, template_args: object) -> Rendered:
        raise NotImplementedError


class SlowText(FakeText):
    """A tokenizer that takes as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def encode(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        await self.go_on.wait()
        return await super().encode(text, add_special)
