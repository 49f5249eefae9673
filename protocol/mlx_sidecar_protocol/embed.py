"""Parameters and results of ``embed`` and ``rerank``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from .generate import Priority
from .model import Count, FirstFault, ModelName, NullIs, OneError, Received, Sent, TokenId, refuse_fields

Pooling = Literal["mean", "cls", "last", "max"]
TEXTS_LIMIT = 2048

Instruction = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
PromptName = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_TokenList = Annotated[list[TokenId], Field(min_length=1), FirstFault()]
_Text = Annotated[str | _TokenList, OneError("text_or_tokens", "must be a string or a list of token ids, at least one")]
_Deadline = Annotated[float, Field(gt=0)]


class EmbedParams(Received):
    """Texts of which each is given a vector; token lists are taken as they are, without special tokens around them."""

    model: ModelName
    input: Annotated[list[_Text], Field(min_length=1, max_length=TEXTS_LIMIT), FirstFault()] = Field(
        description="strings or lists of token ids, at most 2048"
    )
    pooling: Pooling | None = Field(default=None, description="instead of what the model's files say")
    dimensions: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="the first so many numbers of each vector, for models that were trained for that"
    )
    normalize: bool | None = Field(default=None, description="to length 1; by default what the model's files say")
    truncate: Annotated[bool, NullIs(False)] = Field(
        default=False, description="cut texts at the model's limit instead of refusing the request"
    )
    instruction: Instruction | None = Field(default=None, description="put before each text; only goes with strings")
    prompt: PromptName | None = Field(
        default=None,
        description="name of a prompt in the model's files, which is put before each text; instead of instruction",
    )
    encoding: Annotated[Literal["float", "base64"], NullIs("float")] = Field(
        default="float", description="base64: of float32, little-endian"
    )
    priority: Annotated[Priority, NullIs("normal")] = "normal"
    deadline_s: _Deadline | None = Field(
        default=None, description="seconds from the request's arrival, after which it fails with deadline_passed"
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        given = [name for name in ("instruction", "prompt") if getattr(self, name) is not None]
        if given and not all(isinstance(each, str) for each in self.input):
            raise refuse_fields(type(self), "fields_disagree", dict.fromkeys(given, "only goes with strings"))
        if len(given) == 2:
            raise refuse_fields(type(self), "fields_disagree", {"prompt": "it stands where instruction stands"})
        return self


class VectorUsage(Sent):
    """Tokens of all texts, special ones included, and those of them that were in the prefix cache."""

    prompt_tokens: Count
    cached_tokens: Count


class EmbedResult(Sent):
    """A vector for each text, in order: lists of numbers, or base64 of float32, little-endian."""

    embeddings: list[list[float] | str]
    pooling: Pooling
    dimensions: Count
    normalized: bool
    prefix: str | None = Field(default=None, description="the text that was put before each input; absent if none was")
    truncated: list[Count] | None = Field(
        default=None, description="numbers of the texts that were cut; absent if none was"
    )
    usage: VectorUsage


class RerankParams(Received):
    """Documents of which each is given a score for how well it answers the query."""

    model: ModelName
    query: Annotated[str, StringConstraints(min_length=1)]
    documents: Annotated[list[str], Field(min_length=1, max_length=TEXTS_LIMIT), FirstFault()] = Field(
        description="at most 2048"
    )
    top_n: Annotated[int, Field(ge=1)] | None = Field(default=None, description="answer the best so many only")
    instruction: Instruction | None = Field(
        default=None, description="what makes a document fit, for models that read one"
    )
    truncate: Annotated[bool, NullIs(False)] = Field(
        default=False, description="cut documents at the model's limit instead of refusing the request"
    )
    priority: Annotated[Priority, NullIs("normal")] = "normal"
    deadline_s: _Deadline | None = Field(
        default=None, description="seconds from the request's arrival, after which it fails with deadline_passed"
    )


class RerankItem(Sent):
    """A document, by its number in the request, and its score from 0 to 1."""

    index: Count
    relevance_score: float


class RerankResult(Sent):
    """The documents, best first; equally good ones in the order of the request."""

    results: list[RerankItem]
    truncated: list[Count] | None = Field(
        default=None, description="numbers of the documents that were cut; absent if none was"
    )
    usage: VectorUsage


class EmbeddingCard(Sent):
    """How a model embeds texts: numbers of a vector, tokens of a text at most, and what its files say."""

    dimensions: Count
    max_tokens: Count
    pooling: Pooling | None = Field(default=None, description="absent if no file says: a request has to say it, then")
    normalize: bool
    prompts: list[str] | None = Field(default=None, description="names of the prompts in its files; absent without any")
