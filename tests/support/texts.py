"""Texts of models without a text process: its work and the front's, in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.output.detokenizer import Detokenizer, Detokenizers
from mlx_sidecar.front.output.window import Decoding, Window
from mlx_sidecar.front.supervision.text_seat import Reply
from mlx_sidecar.link.faults import error_from
from mlx_sidecar.link.messages import Nearest
from mlx_sidecar.link.text_messages import TextRefused, ToText
from mlx_sidecar.link.token_table import TokenTable
from mlx_sidecar.text.cache_miss import Given, explain
from mlx_sidecar.text.server import TextServer
from mlx_sidecar.text.templates import Rendered
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.generate_result import CacheExplanation

Decode = Callable[[Sequence[int], bool], str]


class WindowDetokenizer:
    """``LateText`` with a decoder that answers at once."""

    def __init__(self, decode: Decode, hidden: frozenset[int], window: Window) -> None:
        self._decode = decode
        self._hidden = hidden
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
                visible = [[token for token in run if token not in self._hidden] for run in runs]
                runs = decoding.send([self._decode(run, False) if run else "" for run in visible])
        except StopIteration as done:
            text: str = done.value
            return text


def detokenizer_of(
    table: TokenTable,
    decode: Decode,
    skip_special: bool = True,
    behind: Sequence[int] = (),
    shown: frozenset[str] = frozenset(),
) -> Detokenizer:
    """The detokenizer for a stream of a model with this ``table``, whatever the tokenizer's family."""
    detokenizers = Detokenizers(table)
    hidden = detokenizers.hidden(skip_special, shown)
    made = detokenizers.new(skip_special, behind, shown)
    return made or WindowDetokenizer(decode, hidden, Window(table, hidden, behind))


def detokenizer(
    model: TextModel, skip_special: bool = True, behind: Sequence[int] = (), shown: frozenset[str] = frozenset()
) -> Detokenizer:
    return detokenizer_of(model.table(), model.decode, skip_special, behind, shown)


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


class TextsHere:
    """A pool whose text process is this one."""

    def __init__(self) -> None:
        self.server = TextServer(lambda processor_s: None)

    async def ask(self, make: Callable[[int], ToText], reply: type[Reply]) -> Reply:
        answer = self.server.answer(make(1))
        if isinstance(answer, TextRefused):
            raise error_from(answer.fault)
        assert isinstance(answer, reply)
        return answer


class SlowText(FakeText):
    """A tokenizer that takes as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def encode(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        await self.go_on.wait()
        return await super().encode(text, add_special)
