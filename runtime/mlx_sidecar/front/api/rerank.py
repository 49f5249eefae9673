"""The operation ``rerank`` scores documents by a query: with a classifier, or by a model's yes and no."""

from __future__ import annotations

import math
from array import array
from functools import partial
from typing import NamedTuple

from mlx_sidecar_protocol.embed import RerankItem, RerankParams, RerankResult, VectorUsage
from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams, UnsupportedParameter

from ...link.control_messages import ModelCard
from ...link.messages import Score
from ...link.token_table import unpacked
from ..streams.task import Ending
from .embed import check_text, slices, usage_of
from .model_catalog import ModelCatalog
from .model_text import ModelText
from .sink import Sink
from .vector_tasks import Text, VectorTasks

# As Qwen3-Reranker was trained; its model card has these texts.
_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_ANSWERS = ("no", "yes")
# The query is tokenised with each document again: a request has so many characters of it at most, over all documents.
_QUERY_CHARACTERS = 1 << 26


class _Prepared(NamedTuple):
    """The texts of a request, and the numbers of the documents that were cut."""

    texts: list[Text]
    cut: list[int]


class RerankHandler:
    """Serves ``rerank`` for a front."""

    def __init__(self, catalog: ModelCatalog, tasks: VectorTasks) -> None:
        self._catalog = catalog
        self._tasks = tasks

    async def __call__(self, sink: Sink, params: RerankParams) -> RerankResult:
        prepared, endings = await self._tasks.run(sink, params, partial(self._prepare, params))
        scores = [_score(ending) for ending in endings]
        best = sorted(range(len(scores)), key=lambda number: (-scores[number], number))[: params.top_n]
        return RerankResult(
            results=[RerankItem(index=number, relevance_score=scores[number]) for number in best],
            truncated=prepared.cut or None,
            usage=VectorUsage(**usage_of(prepared.texts, endings)),
        )

    async def _prepare(self, params: RerankParams) -> _Prepared:
        most = _QUERY_CHARACTERS // len(params.documents)
        if len(params.query) > most:
            because = f"with {len(params.documents)} documents it may have {most} characters"
            raise InvalidParams.field("query", because, "too_long")
        card, text, _ = await self._catalog.ready(params.model)
        if because := card.lacks("rerank"):
            raise UnsupportedParameter("model", because)
        pairs = card.lacks("generate") or card.architecture == "fake"
        prepared = await (_pairs(params, card, text) if pairs else _judged(params, card, text))
        for number, each in enumerate(prepared.texts):
            check_text(each.tokens, "documents", number, card.context_length, card.vocabulary)
        return prepared


async def _pairs(params: RerankParams, card: ModelCard, text: ModelText) -> _Prepared:
    """The pairs of query and document that a cross-encoder reads."""
    if params.instruction is not None:
        raise UnsupportedParameter("instruction", "the model reads a query and a document, and no instruction")
    limit = _limit(card) if params.truncate else 0
    await _check_query(params, text, limit or card.context_length)
    texts: list[Text] = []
    cut: list[int] = []
    for part in slices(params.documents, len(params.query)):
        encoded = await text.encode_texts(params.documents[part], before=params.query, limit=limit)
        texts += [
            Text(unpacked(tokens), Score(second=second))
            for tokens, second in zip(encoded.tokens, encoded.seconds, strict=True)
        ]
        cut += [part.start + at for at in encoded.cut]
    return _Prepared(texts, cut)


async def _check_query(params: RerankParams, text: ModelText, limit: int) -> None:
    """Refuse a query that is too long for a pair with any document, before it is read with each of them."""
    pair = await text.encode_texts([""], before=params.query)
    if (have := len(unpacked(pair.tokens[0]))) > limit:
        raise ContextTooLong(have=have, limit=limit, field="query")


async def _judged(params: RerankParams, card: ModelCard, text: ModelText) -> _Prepared:
    """Prompts behind which the model says yes or no. Texts of the host never become control tokens."""
    labels = [await text.encode(answer, False) for answer in _ANSWERS]
    if any(len(label) != 1 for label in labels):
        raise UnsupportedParameter("model", "its tokenizer has no single tokens for yes and no")
    before, behind = [await text.encode(part, False) for part in (_BEFORE, _BEHIND)]
    instructed = f"<Instruct>: {params.instruction or _INSTRUCTION}\n<Query>: "
    asked = f"{instructed}{params.query}\n<Document>: "
    limit = _limit(card) if params.truncate else card.context_length
    room = limit - len(before) - len(behind)
    goal_labels = [label[0] for label in labels]
    texts: list[Text] = []
    cut: list[int] = []
    # The query is the same before each document: as many tokens as all have in common are computed once.
    shared = len(before) + max(0, len(await text.encode(asked, False, True)) - 1)
    if shared - len(before) >= room:
        field = "query" if len(await text.encode(instructed, False, True)) < room else "instruction"
        raise ContextTooLong(have=shared + len(behind), limit=limit, field=field)
    for number, document in enumerate(params.documents):
        content = await text.encode(asked + document, False, True)
        if params.truncate and len(content) > room:
            content = content[:room]
            cut.append(number)
        texts.append(Text([*before, *content, *behind], Score(labels=goal_labels, shared=shared)))
    return _Prepared(texts, cut)


def _limit(card: ModelCard) -> int:
    own = card.embedding
    return card.context_length if own is None else min(card.context_length, own.max_tokens)


def _score(ending: Ending) -> float:
    """The probability of yes against no, or of the one label of a classifier."""
    logits = array("f", ending.vector)
    logit = logits[1] - logits[0] if len(logits) == len(_ANSWERS) else logits[0]
    return 1.0 / (1.0 + math.exp(-logit)) if logit > -700.0 else 0.0
