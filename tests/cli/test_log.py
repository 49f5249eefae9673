"""``mlx-sidecar log`` reads a gateway's log, whatever stands in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.cli import main
from mlx_sidecar.cli.log.answer_text import error_in, text_in, tokens_in
from mlx_sidecar.cli.log.entries import LONGEST_LINE_BYTES, Tally, read

USAGE = 2


def entry(number: int, **members: Any) -> dict[str, Any]:
    """A request that came ``number`` minutes ago."""
    ts = (datetime.now(UTC) - timedelta(minutes=number)).isoformat(timespec="milliseconds")
    usual = {"path": "/v1/messages", "status": 200, "outcome": "stop", "duration_s": 1.0}
    return {"ts": ts, "id": f"{number:032}", **usual, **members}


def write(file: Path, *entries: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(each) + "\n" for each in entries))
    return file


def run(*words: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["log", *map(str, words)])
    return ended.value.code


def listed(capsys: pytest.CaptureFixture[str], *words: object) -> list[int]:
    """The numbers of the requests that a command lists."""
    assert run(*words, "--json") == 0
    return [int(json.loads(line)["id"]) for line in capsys.readouterr().out.splitlines()]


def test_the_latest_requests_are_a_table_with_the_reasons_of_those_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"model": "pocket", "queue_s": 0.25, "first_token_s": 0.5, "prompt_tokens": 12, "completion_tokens": 34}
    failed = {
        "status": 503,
        "outcome": "overloaded",
        "message": "it\nis full",
        "failed": True,
        "duration_s": 0.1,
    }
    file = write(tmp_path / "log", entry(2, **told), entry(1, **failed))
    assert run(file) == 0
    out = capsys.readouterr()
    heading, first, second, reason = out.out.splitlines()
    # Nothing has a key, or was cached.
    assert " ".join(heading.split()) == "TIME ID PATH MODEL STATUS OUTCOME QUEUE FIRST TOTAL IN OUT"
    assert "/v1/messages  pocket  200     stop        0.250  0.500  1.000  12  34" in first
    assert second.endswith("0.100")
    assert reason == "  it is full"
    assert out.err == ""


def test_requests_are_chosen_by_what_became_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path / "log",
        entry(200, duration_s=3.0, key="ann", model="a"),
        entry(90, duration_s=9.0, failed=True, model="a"),
        entry(30, duration_s=1.0, key="ann", failed=True),
        entry(5, duration_s=5.0, key="bob", model="b"),
    )
    assert listed(capsys, file) == [200, 90, 30, 5]
    assert listed(capsys, file, "--last", 2) == [30, 5]
    assert listed(capsys, file, "--slowest") == [90, 5, 200, 30]
    assert listed(capsys, file, "--slowest", 1) == [90]
    assert listed(capsys, file, "--failed") == [90, 30]
    assert listed(capsys, file, "--key", "ann") == [200, 30]
    assert listed(capsys, file, "--model", "a", "--failed") == [90]
    assert listed(capsys, file, "--since", "2h") == [90, 30, 5]
    assert listed(capsys, file, "--since", "600s", "--slowest", 3) == [5]


def test_older_parts_come_first_and_a_gap_in_them_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "log", entry(1))
    write(tmp_path / "log.1", entry(2), entry(3))
    write(tmp_path / "log.10", entry(4))
    write(tmp_path / "log.txt", entry(5))
    assert listed(capsys, tmp_path / "log") == [4, 2, 3, 1]
    (tmp_path / "log").unlink()
    assert listed(capsys, tmp_path / "log") == [4, 2, 3]


def test_a_part_that_is_moved_while_it_is_read_comes_once(tmp_path: Path) -> None:
    file = write(tmp_path / "log", entry(1))
    (tmp_path / "log.1").hardlink_to(file)
    assert [line.entry.id for line in read(file, Tally())] == [entry(1)["id"]]


def test_foreign_lines_and_missing_requests_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "log", entry(3), entry(2, dropped=7))
    with file.open("ab") as log:
        log.write(b'\n{"id": "torn\n[1]\n\xff\n' + b"x" * (LONGEST_LINE_BYTES + 5) + b"\n{}\n")
        log.write(json.dumps(entry(1)).encode())  # the gateway writes it just now
    assert run(file) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert "5 lines left out that are no request" in told.err
    assert "7 requests missing" in told.err


@settings(max_examples=50)
@given(st.lists(st.one_of(st.just(None), st.binary(max_size=30)), max_size=12))
def test_what_stands_between_requests_changes_nothing_of_them(
    tmp_path_factory: pytest.TempPathFactory, pieces: Sequence[bytes | None]
) -> None:
    """None stands for a request."""
    file = tmp_path_factory.mktemp("log") / "log"
    lines = [json.dumps(entry(9)).encode() if piece is None else piece.replace(b"{", b"") for piece in pieces]
    file.write_bytes(b"\n".join(lines))
    tally = Tally()
    found = list(read(file, tally))
    assert len(found) == pieces.count(None)
    assert tally.foreign <= sum(piece.count(b"\n") + 1 for piece in pieces if piece is not None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "No such file"),
        (["log", "--since", "soon"], "is no time"),
        (["log", "--last", "0"], "not positive"),
        (["log", "--replay", "9"], "has no such request"),
        (["log", "--replay", "0"], "several requests"),
        (["log", "--replay", entry(1)["id"]], "--log-prompts"),
        (["log", "--replay", entry(2)["id"]], "too long for it"),
        (["log", "--replay", entry(3)["id"], "--gateway", "ftp://x"], "neither"),
        (["log", "--replay", entry(3)["id"], "--key-file", "nowhere"], "No such file"),
        (["log", "--replay", entry(3)["id"], "--gateway", "unix:nowhere"], "No such file"),
    ],
)
def test_what_cannot_be_done_is_told_by_its_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "log", entry(1), entry(2, body_left_out="too long for it"), entry(3, body={}, method="POST"))
    assert run(*words) in (1, USAGE)
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert said in told
    assert told.count("\n") == 1


def test_a_log_commands_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "log", entry(1, model="\x1b]0;mine\x07", message="\x1b[2J", failed=True))
    assert run(file) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_errors_and_tokens_are_found_in_the_words_of_each_surface() -> None:
    assert error_in({"error": {"message": "no"}}) == error_in({"error": "no"}) == "no"
    assert error_in({"type": "response.failed", "response": {"error": {"message": "no"}}}) == "no"
    assert error_in({"type": "error", "error": {"type": "overloaded_error", "message": "no"}}) == "no"
    assert error_in({"choices": []}) is None
    assert tokens_in({"usage": {"completion_tokens": 3}}) == tokens_in({"usage": {"output_tokens": 3}}) == 3
    assert tokens_in({"response": {"usage": {"output_tokens": 3}}}) == tokens_in({"eval_count": 3}) == 3
    assert tokens_in({"usage": None}) is None
    assert text_in({"choices": []}) == text_in([]) == text_in({"message": {"content": [{"text": "x"}]}}) == ""
