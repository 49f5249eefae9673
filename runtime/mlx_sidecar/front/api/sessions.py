"""The operations on sessions open, fork, roll back, report, close, export and import them."""

from __future__ import annotations

import hashlib

import msgspec
from pydantic_core import to_json

from mlx_sidecar_protocol import sessions as s
from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.operations import EmptyResult

from ..sessions import session_file
from ..sessions.session import Session, Shared
from ..sessions.store import SessionStore, new_id
from ..sessions.turn import Turn
from .model_catalog import ModelCatalog
from .model_text import ModelText
from .offload import in_thread
from .sink import Sink


class SessionHandlers:
    """Serves the ``session/`` methods of a front."""

    def __init__(self, store: SessionStore, catalog: ModelCatalog) -> None:
        self._store = store
        self._catalog = catalog

    async def open(self, sink: Sink, params: s.SessionOpenParams) -> s.SessionResult:
        await self._catalog.text(params.model)
        common = to_json([params.tools, params.template_args])
        shared = Shared(params.model, params.tools, params.template_args, len(common))
        messages = to_json([message.for_template() for message in params.messages or ()])
        base = Turn(new_id("turn"), messages=messages)
        return _result(self._opened(shared, [base], params.ttl_s))

    def fork(self, sink: Sink, params: s.SessionForkParams) -> s.SessionResult:
        session = self._store.find(params.session)
        at = session.turn(params.at, "at")
        return _result(self._store.open(session.shared, at, session.ttl_s))

    def rollback(self, sink: Sink, params: s.SessionRollbackParams) -> s.SessionRollbackResult:
        session = self._store.find(params.session)
        to = session.turn(params.to, "to")
        removed = session.behind(to) if params.dry_run else session.roll_back(to)
        return s.SessionRollbackResult(session=session.id, turn=to.id, removed=[turn.id for turn in removed])

    def get(self, sink: Sink, params: s.OfSession) -> bytes:
        return _described(self._store.find(params.session))

    def close(self, sink: Sink, params: s.OfSession) -> EmptyResult:
        self._store.close(self._store.find(params.session))
        return EmptyResult()

    async def export(self, sink: Sink, params: s.SessionExportParams) -> s.SessionFileResult:
        session = self._store.find(params.session)
        record = session_file.record_of(session)  # at once: it may be closed meanwhile
        record.vocabulary = await in_thread(None, _vocabulary_digest, await self._catalog.text(record.model))
        try:
            nbytes = await in_thread(None, session_file.write, params.path, record)
        except OSError as error:
            raise InvalidParams.field("path", f"it cannot be written: {error.strerror}", "unwritable") from error
        return s.SessionFileResult(
            session=session.id, turn=record.turns[record.latest].id, turns=len(record.turns), nbytes=nbytes
        )

    async def import_(self, sink: Sink, params: s.SessionImportParams) -> s.SessionFileResult:
        try:
            record, nbytes = await in_thread(None, session_file.read, params.path, self._store.free_bytes)
            text = await self._catalog.text(params.model or record.model)
            if record.vocabulary != await in_thread(None, _vocabulary_digest, text):
                raise session_file.Damaged("it was written with another vocabulary than the model's")
            turns, latest = await in_thread(None, session_file.turns_of, record, text.vocabulary)
            shared = _shared(params.model or record.model, record)
        except OSError as error:
            raise InvalidParams.field("path", f"it cannot be read: {error.strerror}", "unreadable") from error
        except session_file.Damaged as error:
            raise InvalidParams.field("path", str(error), "no_session") from error
        session = self._opened(shared, turns, params.ttl_s)
        session.latest = latest
        return s.SessionFileResult(session=session.id, turn=latest.id, turns=len(turns), nbytes=nbytes)

    def _opened(self, shared: Shared, turns: list[Turn], ttl_s: float | None) -> Session:
        """A new session with ``turns``, the first of which has no parent."""
        give_back = self._store.reserve(shared.nbytes + sum(turn.nbytes for turn in turns))
        try:
            session = self._store.open(shared, turns[0], ttl_s)
        finally:
            give_back()
        self._store.counted(shared)
        for turn in turns:
            self._store.counted(turn)
        for turn in turns[1:]:
            session.add(turn)
        return session


def _result(session: Session) -> s.SessionResult:
    return s.SessionResult(session=session.id, turn=session.latest.id)


def _described(session: Session) -> bytes:
    """A ``SessionGetResult`` as JSON; messages are not parsed for it."""
    shared = session.shared
    head = {"session": session.id, "turn": session.latest.id, "model": shared.model, "nbytes": session.nbytes}
    optional = {"tools": shared.tools, "template_args": shared.template_args, "ttl_s": session.ttl_s}
    known = to_json({**head, **{name: value for name, value in optional.items() if value is not None}})
    turns = b",".join(_turn_json(turn) for turn in session.turns)
    return b'%b,"turns":[%b]}' % (known[:-1], turns)


def _turn_json(turn: Turn) -> bytes:
    head = {
        "turn": turn.id,
        "parent": turn.parent and turn.parent.id,
        "finish_reason": turn.finish_reason,
        "prompt_tokens": turn.length - turn.answered,
        "completion_tokens": turn.answered,
        "dropped_messages": turn.dropped or None,
    }
    known = to_json({name: value for name, value in head.items() if value is not None})
    answer = b"" if turn.answer is None else b',"answer":' + turn.answer
    return b'%b,"messages":%b%b}' % (known[:-1], turn.messages, answer)


def _shared(model: str, record: session_file.SessionRecord) -> Shared:
    """The members that the turns in a file have in common, as ``session/open`` takes it."""
    tools, template_args = session_file.shared_of(record)
    try:
        opened = s.SessionOpenParams.parse({"model": model, "tools": tools, "template_args": template_args})
    except InvalidParams as error:
        raise session_file.Damaged(error.message) from error
    return Shared(model, opened.tools, opened.template_args, len(record.shared))


def _vocabulary_digest(text: ModelText) -> bytes:
    """A digest of the texts of all tokens."""
    table = text.table
    return hashlib.sha256(msgspec.msgpack.encode([table.ids, table.strings])).digest()
