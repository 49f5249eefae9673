"""The operation ``embed`` makes texts into tokens, and an answer of the vectors that the engine makes of them."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from mlx_sidecar_protocol.embed import EmbedParams
from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams, UnsupportedParameter

from ...link.control_messages import EmbeddingCard, ModelCard, Pooling
from ...link.messages import Embed
from ...link.token_table import unpacked
from ..streams.task import Ending
from .model_catalog import ModelCatalog
from .model_text import ModelText
from .offload import object_json, off_loop
from .sink import Sink
from .vector_tasks import Text, VectorTasks

# An answer must fit into a frame, which has 64 MiB.
_ANSWER_BYTES = 48 << 20
_NUMBER_BYTES = {"float": 22, "base64": 6}
_NAMES_SHOWN = 20
# Texts and characters that a text process is given at once: others ask it too.
_TEXTS_AT_ONCE = 64
_CHARACTERS_AT_ONCE = 65_536


class _Asked(NamedTuple):
    """A request as its model will honour it; ``prefix`` stands before each string."""

    pooling: Pooling
    dimensions: int
    normalize: bool
    prefix: str
    max_tokens: int
    causal: bool
    caches: bool


class _Prepared(NamedTuple):
    """The texts of a request, and the numbers of those that were cut."""

    asked: _Asked
    texts: list[Text]
    cut: list[int]


class EmbedHandler:
    """Serves ``embed`` for a front."""

    def __init__(self, catalog: ModelCatalog, tasks: VectorTasks) -> None:
        self._catalog = catalog
        self._tasks = tasks

    async def __call__(self, sink: Sink, params: EmbedParams) -> bytes:
        """The result as JSON, because it may have a million numbers."""
        prepared, endings = await self._tasks.run(sink, params, partial(self._prepare, params))
        return await off_loop(_answer, params, prepared, endings, size=len(endings) * prepared.asked.dimensions)

    async def _prepare(self, params: EmbedParams) -> _Prepared:
        card, text, _ = await self._catalog.ready(params.model)
        asked = _asked(params, card)
        beginning = await _prefix_tokens(text, asked, "instruction" if params.prompt is None else "prompt")
        pieces, cut = await _pieces(params, text, asked)
        for number, tokens in enumerate(pieces):
            check_text(tokens, "input", number, asked.max_tokens, card.vocabulary)
        goal = Embed(asked.pooling, asked.dimensions, asked.normalize, _shared(beginning, asked))
        return _Prepared(asked, [Text(tokens, goal) for tokens in pieces], cut)


def _asked(params: EmbedParams, card: ModelCard) -> _Asked:
    """``params``, with the card's values where they leave one open. Raises for what the model cannot honour."""
    own = card.embedding
    if because := card.lacks("embed"):
        raise UnsupportedParameter("model", because)
    if own is None:
        raise UnsupportedParameter("model", "it does not embed texts")
    pooling, causal = params.pooling or own.pooling, not card.lacks("generate")
    if pooling is None:
        because = "the model's files do not say how it pools; say which: mean, cls, last or max"
        raise InvalidParams.field("pooling", because, "missing")
    if causal and pooling == "cls":
        raise UnsupportedParameter("pooling", "under causal attention the first token has seen no other")
    dimensions = params.dimensions or own.dimensions
    if dimensions > own.dimensions:
        because = f"the model's vectors have {own.dimensions} numbers"
        raise InvalidParams.field("dimensions", because, "less_than_equal")
    if len(params.input) * dimensions * _NUMBER_BYTES[params.encoding] > _ANSWER_BYTES:
        because = f"{len(params.input)} vectors of {dimensions} numbers are more than an answer holds"
        raise InvalidParams.field("input", because, "too_long")
    return _Asked(
        pooling=pooling,
        dimensions=dimensions,
        normalize=own.normalize if params.normalize is None else params.normalize,
        prefix=_prefix(params, own),
        max_tokens=own.max_tokens,
        causal=causal,
        caches=not card.lacks("prefix_cache"),
    )


def _prefix(params: EmbedParams, own: EmbeddingCard) -> str:
    if params.prompt is not None:
        if (prompt := own.prompts.get(params.prompt)) is None:
            known = ", ".join(list(own.prompts)[:_NAMES_SHOWN]) or "none"
            because = f"the model's files have no prompt of that name; they have {known}"
            raise InvalidParams.field("prompt", because, "unknown_prompt")
        return prompt
    if params.instruction is None:
        return ""
    return f"Instruct: {params.instruction}\nQuery:" if own.instructs else params.instruction


async def _pieces(params: EmbedParams, text: ModelText, asked: _Asked) -> tuple[list[list[int]], list[int]]:
    """The tokens of each text, and the numbers of those that were cut."""
    limit = asked.max_tokens if params.truncate else 0
    pieces = [[] if isinstance(each, str) else each[: limit or None] for each in params.input]
    cut = [n for n, each in enumerate(params.input) if not isinstance(each, str) and len(each) > len(pieces[n])]
    strings = [(number, asked.prefix + each) for number, each in enumerate(params.input) if isinstance(each, str)]
    for part in slices([string for _, string in strings]):
        numbers = [number for number, _ in strings[part]]
        given = [string for _, string in strings[part]]
        encoded = await text.encode_texts(given, limit=limit, ends=ends(asked.pooling, causal=asked.causal))
        for number, tokens in zip(numbers, encoded.tokens, strict=True):
            pieces[number] = unpacked(tokens)
        cut += [numbers[at] for at in encoded.cut]
    return pieces, sorted(cut)


def ends(pooling: Pooling, *, causal: bool) -> bool:
    """Whether an end token stands behind each text: its hidden state is the vector."""
    return causal and pooling == "last"


def slices(texts: Sequence[str], beside: int = 0) -> list[slice]:
    """Cut ``texts`` into runs, each of which a text process is given at once; ``beside`` each it reads characters."""
    found: list[slice] = []
    begin = characters = 0
    for at, text in enumerate(texts):
        if at > begin and (at - begin >= _TEXTS_AT_ONCE or characters + len(text) + beside > _CHARACTERS_AT_ONCE):
            found.append(slice(begin, at))
            begin, characters = at, 0
        characters += len(text) + beside
    return [*found, slice(begin, len(texts))] if texts else []


def check_text(tokens: list[int], field: str, number: int, limit: int, vocabulary: int) -> None:
    """Refuse a text without tokens, with more than ``limit``, or with one beyond ``vocabulary``, naming it."""
    if not tokens:
        raise _fault(field, number, "it has no tokens", "empty_text")
    if len(tokens) > limit:
        raise ContextTooLong(have=len(tokens), limit=limit, field=f"{field}.{number}")
    if (worst := max(tokens)) >= vocabulary:
        raise _fault(field, number, f"token {worst} is outside the vocabulary of {vocabulary}", "unknown_token")


def _fault(field: str, number: int, message: str, type_: str) -> InvalidParams:
    return InvalidParams([{"loc": [field, number], "msg": message, "type": type_}])


async def _prefix_tokens(text: ModelText, asked: _Asked, field: str) -> int:
    """How many tokens the prefix has, special ones included; 0 without one.

    Raises ContextTooLong naming the ``field`` it is from where it leaves no token for a text: cut, all would be equal.
    """
    if not asked.prefix:
        return 0
    tokens = len(unpacked((await text.encode_texts([asked.prefix])).tokens[0]))
    limit = asked.max_tokens - 1 - ends(asked.pooling, causal=asked.causal)
    if tokens > limit:
        raise ContextTooLong(have=tokens, limit=limit, field=field)
    return tokens


def _shared(beginning: int, asked: _Asked) -> int:
    """How many tokens of each text are those of the prefix, at most; 0 where they cannot be cached."""
    return beginning if asked.caches and asked.causal and asked.pooling == "last" else 0


def _answer(params: EmbedParams, prepared: _Prepared, endings: list[Ending]) -> bytes:
    asked = prepared.asked
    encoded = [_numbers(ending.vector) if params.encoding == "float" else _base64(ending.vector) for ending in endings]
    return object_json(
        {
            "embeddings": encoded,
            "pooling": asked.pooling,
            "dimensions": asked.dimensions,
            "normalized": asked.normalize,
            "prefix": asked.prefix or None,
            "truncated": prepared.cut or None,
            "usage": usage_of(prepared.texts, endings),
        }
    )


def usage_of(texts: list[Text], endings: list[Ending]) -> dict[str, int]:
    """The tokens of all texts, and how many of them the prefix cache had."""
    return {
        "prompt_tokens": sum(len(text.tokens) for text in texts),
        "cached_tokens": sum(ending.cached_tokens for ending in endings),
    }


def _numbers(vector: bytes) -> list[float]:
    return array("f", vector).tolist()


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()
