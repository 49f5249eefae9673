"""Vectors for any number of texts, by requests of some of them each."""

from __future__ import annotations

import base64
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, Unpack

import anyio

from .errors import from_wire
from .parameters import EmbedAllOptions, EmbedOptions
from .protocol.embed import EmbedResult
from .protocol.errors import RpcError

BATCH = 256
# Requests on their way: one that the sidecar works on, and one that waits there.
_AT_ONCE = 2

Text = str | Sequence[int]


class _Embed(Protocol):
    async def __call__(self, model: str, texts: Sequence[Text], /, **options: Unpack[EmbedOptions]) -> EmbedResult: ...


async def embedded_all(
    embed: _Embed, model: str, texts: Iterable[Text], batch: int, options: EmbedAllOptions
) -> list[array[float]]:
    """A vector of float32 for each of ``texts``, in order.

    Errors of the sidecar name a text by its number among all. Raises ValueError for a ``batch`` below 1, TypeError for
    a string in the place of ``texts``, whose characters would be embedded one by one.
    """
    if batch < 1:
        raise ValueError("batch: at least one text makes a request")
    if isinstance(texts, str):
        raise TypeError("texts: a list of them is needed, not one string")
    found: dict[int, list[array[float]]] = {}
    batches = enumerate(_batches(iter(texts), batch))
    failed: list[BaseException] = []

    async def work() -> None:
        try:
            for number, part in batches:
                result = await _embedded(embed, model, part, options, number * batch)
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


async def _embedded(embed: _Embed, model: str, part: list[Text], options: EmbedAllOptions, first: int) -> EmbedResult:
    """The answer to the request for the texts from number ``first`` on."""
    try:
        return await embed(model, part, encoding="base64", **options)
    except RpcError as error:
        raise _among_all(error, first) from None


def _among_all(error: RpcError, first: int) -> RpcError:
    """``error`` with the number of a text among all, where a request had its texts from ``first`` on."""

    def moved(place: str) -> str:
        return re.sub(r"\Ainput\.(\d+)", lambda match: f"input.{int(match[1]) + first}", place)

    data: dict[str, Any] = dict(error.data)
    if isinstance(field := data.get("field"), str):
        data["field"] = moved(field)
    if isinstance(faults := data.get("errors"), list):
        data["errors"] = [{**fault, "loc": _moved_loc(fault["loc"], first)} for fault in faults]
    return from_wire({"code": error.code, "message": moved(error.message), "data": data})


def _moved_loc(loc: list[str | int], first: int) -> list[str | int]:
    match loc:
        case ["input", int(number), *inner]:
            return ["input", number + first, *inner]
    return loc


def _batches(texts: Iterator[Text], size: int) -> Iterator[list[Text]]:
    while part := list(islice(texts, size)):
        yield part


def _numbers(vector: str | list[float]) -> array[float]:
    assert isinstance(vector, str)
    numbers = array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
