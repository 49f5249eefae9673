"""The file of a session: a magic line, a digest, and its turns as MessagePack. Keys and values are not in it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlx_sidecar_protocol.generate import FinishReason

from .dropping import system_messages
from .session import Session
from .turn import TOKEN_BYTES, Turn

_MAGIC = b"mlx-sidecar session 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_LONGEST_ID = 1024


class TurnRecord(msgspec.Struct, array_like=True):
    """A ``Turn``.

    ``parent`` is the number of an earlier record, -1 in the first; ``tokens`` have 32 bits, low byte first.
    """

    id: str
    parent: int
    messages: bytes
    answer: bytes | None
    shared: int
    tokens: bytes
    answered: int
    dropped: int
    finish_reason: FinishReason | None


class SessionRecord(msgspec.Struct):
    """``vocabulary`` is a digest of the tokens' texts, because ids mean nothing under another one.

    ``latest`` is the number of a turn.
    """

    model: str
    shared: bytes  # JSON of tools and template_args
    latest: int
    turns: list[TurnRecord]
    vocabulary: bytes = b""


class Damaged(ValueError):
    """The file is no session's, or not as it was written; the message says why."""


def record_of(session: Session) -> SessionRecord:
    """All that the file of ``session`` holds but the digest of the vocabulary."""
    shared, turns = session.shared, session.turns
    numbers = {turn: number for number, turn in enumerate(turns)}
    common = {"tools": shared.tools, "template_args": shared.template_args}
    records = [_record(turn, -1 if turn.parent is None else numbers[turn.parent]) for turn in turns]
    return SessionRecord(shared.model, json.dumps(common).encode(), numbers[session.latest], records)


def write(path: str, record: SessionRecord) -> int:
    """Write ``record`` to ``path`` at once or not at all; returns the size of the file in bytes. Raises OSError."""
    body = msgspec.msgpack.encode(record)
    unfinished = Path(f"{path}.{secrets.token_hex(4)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def read(path: str, limit_bytes: int) -> tuple[SessionRecord, int]:
    """The record in the file and the file's size in bytes. Raises OSError, and Damaged also above ``limit_bytes``."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise Damaged(f"it has {size} bytes, and there is room for {limit_bytes}")
        data = file.read(limit_bytes + 1)
    head = len(_MAGIC) + _DIGEST_BYTES
    if not data.startswith(_MAGIC):
        raise Damaged("it is no file of a session, or of another version")
    body = data[head:]
    if hashlib.sha256(body).digest() != data[len(_MAGIC) : head]:
        raise Damaged("it is damaged: its digest differs")
    try:
        return msgspec.msgpack.decode(body, type=SessionRecord), len(data)
    except msgspec.DecodeError as error:
        raise Damaged(f"it cannot be read: {error}") from error


def shared_of(record: SessionRecord) -> tuple[Any, Any]:
    """Tools and template_args of ``record``, as JSON holds them. Raises Damaged."""
    common = _json(record.shared, dict)
    return common.get("tools"), common.get("template_args")


def turns_of(record: SessionRecord, vocabulary: int) -> tuple[list[Turn], Turn]:
    """The turns, parents before children, and the latest. Raises Damaged if they are not what a session can hold."""
    turns = list[Turn]()
    for number, each in enumerate(record.turns):
        if (each.parent == -1) != (number == 0) or not -1 <= each.parent < number:
            raise Damaged("its turns are no tree")
        turns.append(_turn(each, turns[each.parent] if number else None, vocabulary))
    if len({turn.id for turn in turns}) != len(turns):
        raise Damaged("two of its turns have the same id")
    if not 0 <= record.latest < len(turns):
        raise Damaged("it has no latest turn")
    return turns, turns[record.latest]


def _record(turn: Turn, parent: int) -> TurnRecord:
    tokens = turn.tokens
    if sys.byteorder == "big":
        tokens = tokens[:]
        tokens.byteswap()
    return TurnRecord(
        turn.id,
        parent,
        turn.messages,
        turn.answer,
        turn.shared,
        tokens.tobytes(),
        turn.answered,
        turn.dropped,
        turn.finish_reason,
    )


def _turn(record: TurnRecord, parent: Turn | None, vocabulary: int) -> Turn:
    if len(record.tokens) % TOKEN_BYTES or not 0 < len(record.id) <= _LONGEST_ID:
        raise Damaged("a turn of it is malformed")
    tokens = array("I", record.tokens)
    if sys.byteorder == "big":
        tokens.byteswap()
    if max(tokens, default=0) >= vocabulary:
        raise Damaged(f"it has a token outside the vocabulary of {vocabulary}")
    begun = 0 if parent is None else parent.length
    if not (0 <= record.shared <= begun and 0 <= record.answered <= len(tokens) and record.dropped >= 0):
        raise Damaged("the numbers of a turn do not fit together")
    if (parent is None) != (record.answer is None):
        raise Damaged("a turn of it has no answer")
    _check_messages(_json(record.messages, list))
    if record.answer is not None:
        _check_messages([_json(record.answer, dict)])
    turn = Turn(
        record.id,
        parent,
        record.messages,
        record.answer,
        record.shared,
        tokens,
        record.answered,
        record.dropped,
        record.finish_reason,
    )
    if turn.dropped and turn.dropped >= len(chat := turn.chat()) - system_messages(chat) - 1:
        raise Damaged("a turn of it leaves itself out")
    return turn


def _check_messages(messages: Sequence[Any]) -> None:
    from pydantic import TypeAdapter, ValidationError

    from mlx_sidecar_protocol.generate import Message

    try:
        TypeAdapter(list[Message]).validate_python(messages)
    except ValidationError as error:
        raise Damaged("a message of it is malformed") from error


def _json(data: bytes, kind: type) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged("a text of it is no JSON") from error
    if not isinstance(value, kind):
        raise Damaged("a text of it holds something else")
    return value
