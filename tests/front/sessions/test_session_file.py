"""The file of a session holds its whole tree, and one that was changed anywhere is refused."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.sessions import session_file
from mlx_sidecar.front.sessions.session import Session, Shared
from mlx_sidecar.front.sessions.session_file import Damaged, SessionRecord
from mlx_sidecar.front.sessions.turn import Turn

LIMIT = 10**6
VOCABULARY = 1000
TOOLS = [{"name": "look"}]


def session(*numbers: int) -> Session:
    """One turn for each number, a child of the turn so many before it."""
    base = Turn("base", messages=b'[{"role":"system","content":"S"}]')
    made = Session("s", Shared("m", TOOLS, {"deep": [1]}), base, None, 0.0)
    turns = [base]
    for at, number in enumerate(numbers):
        parent = turns[-1 - number % len(turns)]
        answer = b'{"role":"assistant","content":"A"}'
        tokens = array("I", range(at % 7 + 1))
        turn = Turn(
            f"t{at}",
            parent,
            b'[{"role":"user","content":"Q"}]',
            answer,
            parent.length,
            tokens,
            1,
            2 if parent.parent else 0,
            "stop",
        )
        made.add(turn)
        turns.append(turn)
    return made


def plain(turns: list[Turn]) -> list[object]:
    return [
        (
            turn.id,
            turn.parent and turn.parent.id,
            turn.own_messages(),
            turn.prompt_and_answer(),
            turn.dropped,
            turn.finish_reason,
        )
        for turn in turns
    ]


@given(st.lists(st.integers(0, 5), max_size=8))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    path = str(tmp_path_factory.getbasetemp() / "a.session")
    given_ = session(*numbers)
    nbytes = session_file.write(path, session_file.record_of(given_))
    record, size = session_file.read(path, LIMIT)
    turns, latest = session_file.turns_of(record, VOCABULARY)
    assert nbytes == size == Path(path).stat().st_size
    assert plain(turns) == plain(given_.turns)
    assert latest.id == given_.latest.id
    assert session_file.shared_of(record) == (TOOLS, {"deep": [1]})


def test_a_file_that_was_changed_anywhere_or_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.session"
    session_file.write(str(path), session_file.record_of(session(0)))
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Damaged):
            session_file.read(str(path), LIMIT)
        path.write_bytes(whole[:at])
        with pytest.raises(Damaged):
            session_file.read(str(path), LIMIT)


def test_a_file_beyond_the_room_there_is_is_not_read(tmp_path: Path) -> None:
    path = str(tmp_path / "a.session")
    size = session_file.write(path, session_file.record_of(session(0)))
    with pytest.raises(Damaged, match="room"):
        session_file.read(path, size - 1)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.session"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        session_file.write(str(path), session_file.record_of(session(0)))
    assert [each.name for each in tmp_path.iterdir()] == ["a.session"]
    assert path.read_bytes() == b"old"


def changed(record: SessionRecord, **members: object) -> None:
    record.turns[1] = msgspec.structs.replace(record.turns[1], **members)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: changed(record, parent=1),
        lambda record: changed(record, parent=-1),
        lambda record: changed(record, parent=-2),
        lambda record: changed(record, id="base"),
        lambda record: changed(record, id=""),
        lambda record: changed(record, tokens=b"123"),
        lambda record: changed(record, tokens=array("I", [VOCABULARY]).tobytes()),
        lambda record: changed(record, shared=1),
        lambda record: changed(record, shared=-1),
        lambda record: changed(record, answered=5),
        lambda record: changed(record, dropped=-1),
        lambda record: changed(record, dropped=1),
        lambda record: changed(record, answer=None),
        lambda record: changed(record, answer=b"[]"),
        lambda record: changed(record, messages=b"{}"),
        lambda record: changed(record, messages=b'[{"role":3}]'),
        lambda record: changed(record, messages=b"["),
        lambda record: changed(record, messages=b"[" * 100_000),
        lambda record: setattr(record, "latest", 2),
        lambda record: setattr(record, "latest", -1),
        lambda record: record.turns.clear(),
    ],
)
def test_a_file_with_a_digest_of_its_own_and_turns_that_do_not_fit_is_refused(
    spoil: Callable[[SessionRecord], None],
) -> None:
    record = session_file.record_of(session(0))
    spoil(record)
    with pytest.raises(Damaged):
        session_file.turns_of(record, VOCABULARY)


@pytest.mark.parametrize("body", [b"", b"\x01", msgspec.msgpack.encode({"model": 3})])
def test_a_body_that_is_no_record_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "a.session"
    path.write_bytes(b"mlx-sidecar session 1\n" + hashlib.sha256(body).digest() + body)
    with pytest.raises(Damaged):
        session_file.read(str(path), LIMIT)
