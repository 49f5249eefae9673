"""The answer to a request goes straight into the mailbox, or into the array that answers its batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from mlx_sidecar_protocol.envelope import RequestId, Result, encode_batch, encode_error, encode_result
from mlx_sidecar_protocol.errors import InternalError, RpcError

from ...containment import LEAVING
from .dispatcher import Outcome, error_of
from .mailbox import Late, Mailbox, Source

log = logging.getLogger(__name__)


class Reply(Protocol):
    """Takes the one answer of a request. ``after`` are the streams that it ends.

    ``held_bytes`` are held by a late answer until it is made.
    """

    def put(self, body: bytes | Late, after: Iterable[Source] = (), held_bytes: int = 0) -> None: ...


def answer(reply: Reply, id_: RequestId, outcome: Outcome, after: Iterable[Source] = ()) -> None:
    """Give ``reply`` the answer to request ``id_``. One that no stream has to go before is made now.

    So its request, and all that was made for it, are let go, and its size is known.
    """
    sources = tuple(after)
    body = body_of(id_, outcome)
    if not isinstance(body, bytes) and not sources:
        body = body() or b""
    reply.put(body, sources, 0 if isinstance(body, bytes) else getattr(outcome, "held_bytes", 0))


def body_of(id_: RequestId, outcome: Outcome) -> bytes | Late:
    """The answer to request ``id_``. Never raises: a result that cannot be encoded is an internal error."""
    if isinstance(outcome, RpcError):
        return _encoded_error(id_, outcome)
    if isinstance(outcome, (bytes, Mapping)) or not callable(outcome):
        return _encoded(id_, outcome)
    return partial(_encoded_late, id_, outcome)


def _encoded_error(id_: RequestId, error: RpcError) -> bytes:
    try:
        return encode_error(id_, error)
    except LEAVING:
        raise
    except BaseException:
        log.exception("the details of an error could not be encoded")
        return encode_error(id_, InternalError())


def _encoded(id_: RequestId, result: Result) -> bytes:
    try:
        return encode_result(id_, result)
    except LEAVING:
        raise
    except BaseException:
        log.exception("a result could not be encoded")
        return encode_error(id_, InternalError())


def _encoded_late(id_: RequestId, make: Callable[[], Result]) -> bytes:
    try:
        result = make()
    except LEAVING:
        raise
    except BaseException as error:  # noqa: BLE001 - logged and answered
        return _encoded_error(id_, error_of(error))
    return _encoded(id_, result)


class Nowhere:
    """The reply of a notification writes no answer. The rest of its stream goes out, because its name is free now."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def put(self, body: bytes | Late, after: Iterable[Source] = (), held_bytes: int = 0) -> None:
        if sources := tuple(after):
            self._mailbox.put(_nothing, sources)


class BatchReply:
    """Collects the answers of one batch; the array goes out, in the order of the requests, when all are there."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._nowhere = Nowhere(mailbox)
        self._answers: list[bytes | Late | None] = []
        self._held_bytes = 0
        self._open = 1  # answers to come, and one for the batch itself until all of it has been started

    def slot(self) -> Reply:
        """The place for the answer of the next request."""
        self._answers.append(None)
        self._open += 1
        return _Slot(self, len(self._answers) - 1)

    def started(self) -> None:
        """All requests of the batch have their slots."""
        self._settle()

    def fill(self, index: int, body: bytes | Late, after: Iterable[Source], held_bytes: int) -> None:
        self._answers[index] = body
        held_bytes = len(body) if isinstance(body, bytes) else held_bytes
        self._held_bytes += held_bytes
        self._mailbox.collect(held_bytes)
        self._nowhere.put(body, after)  # now, not with the array: the next stream of this name may begin before that
        self._settle()

    def _settle(self) -> None:
        self._open -= 1
        if self._open == 0 and self._answers:  # a batch of notifications is not answered
            self._mailbox.collect(-self._held_bytes)
            self._mailbox.put(self._body, held_bytes=self._held_bytes)

    def _body(self) -> bytes:
        answers, self._answers = self._answers, []
        made = [answer if isinstance(answer, bytes) else answer and answer() for answer in answers]
        return encode_batch([answer for answer in made if answer])


class _Slot:
    __slots__ = ("_batch", "_index")

    def __init__(self, batch: BatchReply, index: int) -> None:
        self._batch = batch
        self._index = index

    def put(self, body: bytes | Late, after: Iterable[Source] = (), held_bytes: int = 0) -> None:
        self._batch.fill(self._index, body, after, held_bytes)


def _nothing() -> None:
    return None
