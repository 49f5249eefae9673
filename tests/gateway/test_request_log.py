"""The request log has one line for each request, waits for nothing, and survives what happens to its file."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar_gateway.core.records import Record, Records
from mlx_sidecar_gateway.observability import request_log as log_module
from mlx_sidecar_gateway.observability.request_line import BODY_LIMIT_BYTES, line_of
from mlx_sidecar_gateway.observability.request_log import LogSettings, RequestLog
from mlx_sidecar_gateway.observability.rotating_file import RotatingFile
from tests.gateway.in_memory import InMemory, in_memory

BODY = {"model": "fake?tokens=20", "messages": [{"role": "user", "content": "a secret of mine"}]}


def record(number: int = 0, **members: Any) -> Record:
    made = Record(f"id{number}", "POST", "/v1/chat/completions", **members)
    made.duration_s = 1.0
    return made


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


# Requests of a gateway.


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


async def logged(memory: InMemory, file: Path, body: Any, *, with_bodies: bool = False, **options: Any) -> Any:
    """The line of one request."""
    memory.gateway.records.listeners.clear()
    log = RequestLog(LogSettings(file=file, with_bodies=with_bodies))
    log.attach(memory.gateway.records)
    visit = await memory.visit("/v1/chat/completions", body, **options).run()
    log.close()
    [line] = lines_of(file)
    assert line["id"] == visit.headers["x-request-id"]
    assert line["status"] == visit.status
    assert line["sent_bytes"] == len(visit.body)
    return line


@pytest.mark.anyio
async def test_an_answer_is_told_with_its_times_and_tokens_and_without_its_text(
    memory: InMemory, tmp_path: Path
) -> None:
    headers = [("user-agent", "curl/8"), ("x-stainless-retry-count", "1"), ("authorization", "Bearer sk-secret")]
    body = {**BODY, "stream": True, "user": "me"}
    line = await logged(memory, tmp_path / "log", body, headers=headers)
    assert {
        "method": "POST",
        "path": "/v1/chat/completions",
        "surface": "openai",
        "client": "curl/8",
        "model": BODY["model"],
        "provider": "local",
        "stream": True,
        "priority": "normal",
        "retry": 1,
        "ignored": ["user"],
        "status": 200,
        "outcome": "stop",
        "completion_tokens": 20,
        "cached_tokens": 0,
        "received_bytes": len(json.dumps(body)),
    }.items() <= line.items()
    assert line["ts"].endswith("Z")
    assert 0 <= line["queue_s"] <= line["first_token_s"] <= line["duration_s"]
    assert line["prompt_tokens"] > 0
    assert "secret" not in json.dumps(line)


@pytest.mark.anyio
@pytest.mark.parametrize("body", [{**BODY, "n": 2}, {**BODY, "messages": []}, {"model": "fake", "prompt": "a secret"}])
async def test_a_refused_request_is_told_with_its_reason(memory: InMemory, tmp_path: Path, body: Any) -> None:
    line = await logged(memory, tmp_path / "log", body)
    assert line["status"] == 400
    assert line["message"]
    assert "secret" not in json.dumps(line)


@pytest.mark.anyio
async def test_the_body_is_told_where_that_is_asked_for_and_no_key_ever_is(memory: InMemory, tmp_path: Path) -> None:
    headers = [("authorization", "Bearer sk-9f31"), ("x-api-key", "sk-9f31")]
    line = await logged(memory, tmp_path / "log", BODY, with_bodies=True, headers=headers)
    assert line["body"] == BODY
    assert "sk-9f31" not in json.dumps(line)


@pytest.mark.anyio
async def test_the_body_is_dropped_from_the_record_that_others_may_keep(memory: InMemory, tmp_path: Path) -> None:
    kept: list[Record] = []
    memory.gateway.records.listeners[:] = []
    log = RequestLog(LogSettings(file=tmp_path / "log", with_bodies=True))
    log.attach(memory.gateway.records)
    memory.gateway.records.listeners.append(kept.append)
    await memory.visit("/v1/chat/completions", BODY).run()
    log.close()
    assert kept[0].body == b""


# Lines.


@given(st.dictionaries(st.text(), st.text() | st.integers()), st.integers(0, 4))
def test_a_line_is_one_line_and_has_the_body_as_it_was(value: dict[str, str | int], indent: int) -> None:
    body = json.dumps({"value": value}, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    line = line_of(record(), body.replace(b"\n", b"\r\n"), 0)
    assert line.count(b"\n") == 1
    assert json.loads(line)["body"] == {"value": value}


def test_a_body_that_is_too_long_is_left_out_and_told() -> None:
    line = json.loads(line_of(record(), b" " * (BODY_LIMIT_BYTES + 1), 0))
    assert "body" not in line
    assert str(BODY_LIMIT_BYTES) in line["body_left_out"]


def test_a_message_that_quotes_the_answer_is_told_with_bodies_alone() -> None:
    broken = record(outcome="tool_call_error", message="'secret' is none of the tools")
    assert "message" not in json.loads(line_of(broken, None, 0))
    assert "message" in json.loads(line_of(broken, b"{}", 0))


def test_names_that_a_client_makes_as_long_as_it_likes_are_cut_off() -> None:
    assert len(line_of(record(model="m" * 10**6, message="m" * 10**6), None, 0)) < 2000


def test_a_raised_priority_is_told_beside_the_one_that_was_asked_for() -> None:
    raised = record(priority="high", asked_priority="normal", generates=True)
    line = json.loads(line_of(raised, None, 0))
    assert (line["priority"], line["asked_priority"]) == ("high", "normal")


# The file.


def test_a_full_file_is_kept_beside_the_next_one_and_the_oldest_is_deleted(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", limit_bytes=10, older=2)
    for number in range(8):
        file.append(f"line{number}\n".encode())
    file.close()
    parts = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert parts == {"log": ["line7"], "log.1": ["line6"], "log.2": ["line5"]}


@settings(max_examples=40)
@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60), st.integers(0, 3), st.integers(1, 4))
def test_the_parts_are_the_last_lines_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], limit_bytes: int, older: int, restarts: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    lines = [f"{number:03}{'x' * length}\n" for number, length in enumerate(lengths)]
    for start in range(restarts):
        file = RotatingFile(folder / "log", limit_bytes, older)
        for line in lines[start::restarts]:
            file.append(line.encode())
        file.close()
    written = [line for start in range(restarts) for line in lines[start::restarts]]
    parts = [folder / f"log.{number}" for number in range(older, 0, -1)] + [folder / "log"]
    found = [part.read_text() for part in parts if part.exists()]
    assert "".join(written).endswith("".join(found))
    assert all(len(text) <= max(limit_bytes, max(lengths, default=0) + 4) for text in found)
    assert len(list(folder.iterdir())) == len(found)
    assert not written or found[-1].endswith(written[-1])


def test_the_file_is_its_owners_alone_also_where_it_was_there_before(tmp_path: Path) -> None:
    (path := tmp_path / "log").write_text("")
    path.chmod(0o644)
    file = RotatingFile(path, limit_bytes=1, older=1)
    file.append(b"one\n")
    file.append(b"two\n")
    file.close()
    assert {stat.S_IMODE(part.stat().st_mode) for part in tmp_path.iterdir()} == {0o600}


def test_half_a_line_of_a_killed_gateway_is_ended_before_the_next(tmp_path: Path) -> None:
    (path := tmp_path / "log").write_bytes(b'{"id": 1}\n{"id": ')
    file = RotatingFile(path, limit_bytes=100, older=1)
    file.append(b"whole\n")
    file.close()
    assert path.read_bytes() == b'{"id": 1}\n{"id": \nwhole\n'


def test_a_file_of_another_gateway_or_that_is_none_is_refused(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", limit_bytes=100, older=1)
    with pytest.raises(ValueError, match="another process"):
        RotatingFile(tmp_path / "log", limit_bytes=100, older=1)
    file.close()
    with pytest.raises(OSError, match="directory"):
        RotatingFile(tmp_path, limit_bytes=100, older=1)
    with pytest.raises(ValueError, match="no regular file"):
        RotatingFile(Path("/dev/null"), limit_bytes=100, older=1)


# The thread.


class SlowDisk:
    """Stands before the log's file: each line waits for ``goes_on``, and fails while there is an ``error``."""

    def __init__(self, log: RequestLog) -> None:
        self._append = log._file.append
        log._file.append = self.append  # type: ignore[method-assign]
        self.goes_on = threading.Event()
        self.is_asked = threading.Event()
        self.error: OSError | None = None

    def append(self, line: bytes) -> None:
        self.is_asked.set()
        assert self.goes_on.wait(60)
        if self.error is not None:
            raise self.error
        self._append(line)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RequestLog]:
    made = RequestLog(LogSettings(file=tmp_path / "log"))
    made.attach(Records())
    yield made
    made.close()


def test_lines_that_find_no_room_are_dropped_and_the_next_one_tells_their_number(
    log: RequestLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(log)
    log.hear(record(0))
    disk.is_asked.wait(60)
    monkeypatch.setattr(log_module, "QUEUE_LIMIT_BYTES", 4000)  # of two lines
    for number in range(1, 8):
        log.hear(record(number))
    assert (log.figures()["dropped"], log.figures()["waiting"]) == (5, 2)
    disk.goes_on.set()
    log.close()
    assert [(line["id"], line.get("dropped")) for line in lines_of(tmp_path / "log")] == [
        ("id0", None),
        ("id1", 5),
        ("id2", None),
    ]
    assert log.figures() == {"written": 3, "dropped": 5, "waiting": 0, "error": None}


def test_a_disk_that_fails_costs_its_lines_and_nothing_else(
    log: RequestLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SlowDisk(log)
    disk.error = OSError(28, "No space left on device")
    disk.goes_on.set()
    log.hear(record(0))
    log.hear(record(1))
    while log.figures()["dropped"] < 2:
        pass
    assert "No space" in log.figures()["error"]
    assert caplog.text.count("cannot be written") == 1
    disk.error = None
    log.hear(record(2))
    log.close()
    assert [(line["id"], line["dropped"]) for line in lines_of(tmp_path / "log")] == [("id2", 2)]
    assert log.figures()["error"] is None


def test_a_line_that_the_disk_takes_half_of_is_ended_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RotatingFile(tmp_path / "log", limit_bytes=1000, older=1)
    room, real = [3], os.write

    def full(fd: int, data: bytes) -> int:
        if fd != file._fd:
            return real(fd, data)
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = real(fd, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        file.append(b"first\n")
    room[0] = 100
    file.append(b"second\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"fir\nsecond\n"


def test_a_disk_without_room_for_another_file_deletes_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatingFile(tmp_path / "log", limit_bytes=5, older=2)
    for line in (b"one\n", b"two\n", b"three\n"):
        file.append(line)
    (tmp_path / "log.new").mkdir()
    for _ in range(3):
        with pytest.raises(OSError, match="directory"):
            file.append(b"four\n")
    (tmp_path / "log.new").rmdir()
    file.append(b"four\n")
    file.close()
    assert [(tmp_path / name).read_text() for name in ("log.2", "log.1", "log")] == ["two\n", "three\n", "four\n"]
