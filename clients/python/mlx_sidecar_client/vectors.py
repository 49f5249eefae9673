"""Vectors for any number of texts, by requests of some of them each."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, Unpack

import anyio

from .parameters import EmbedAllOptions, EmbedOptions
from .protocol.embed import EmbedResult

BATCH = 256
# Requests on their way: one that the sidecar works on, and one that waits there.
_AT_ONCE = 2

Text = str | Sequence[int]


class _Embed(Protocol):
    async def __call__(self, model: str, texts: Sequence[Text], /, **options: Unpack[EmbedOptions]) -> EmbedResult: ...


async def embedded_all(
    embed: _Embed, model: str, texts: Iterable[Text], batch: int, options: EmbedAllOptions
) -> list[array[float]]:
    """A vector of float32 for each of ``texts``, in order. Raises ValueError for a ``batch`` below 1."""
    if batch < 1:
        raise ValueError("batch: at least one text makes a request")
    found: dict[int, list[array[float]]] = {}
    batches = enumerate(_batches(iter(texts), batch))
    failed: list[BaseException] = []

    async def work() -> None:
        try:
            for number, part in batches:
                result = await embed(model, part, encoding="base64", **options)
                found[number] = [_numbers(vector) for vector in result.embeddings]
        except BaseException as error:
            failed.append(error)
            raise

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(_AT_ONCE):
                tasks.start_soon(work)
    except BaseExceptionGroup:
        raise failed[0] from None
    return [vector for number in range(len(found)) for vector in found[number]]


def _batches(texts: Iterator[Text], size: int) -> Iterator[list[Text]]:
    while part := list(islice(texts, size)):
        yield part


def _numbers(vector: str | list[float]) -> array[float]:
    assert isinstance(vector, str)
    numbers = array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
