"""The messages that a conversation keeps, leaves out and writes down."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.cli.chat import conversation
from mlx_sidecar.cli.chat.commands import COMMANDS, command_of
from mlx_sidecar.cli.chat.conversation import Conversation
from mlx_sidecar.cli.chat.reading import is_open, unquoted
from mlx_sidecar.cli.chat.text_file import LIMIT_BYTES, read_text
from mlx_sidecar.cli.failures import Refused


def held(turns: int, system: str | None) -> Conversation:
    made = Conversation()
    made.system = system
    for number in range(turns):
        made.ask(f"q{number}")
        if number < turns - 1:
            made.answer(f"a{number}")
    return made


@given(st.integers(1, 6), st.integers(0, 9), st.sampled_from([None, "Be brief."]))
def test_the_oldest_turns_go_whole_and_neither_the_system_nor_the_last_question_goes(
    turns: int, dropped: int, system: str | None
) -> None:
    made = held(turns, system)
    left = made.without_oldest(dropped)
    assert [each["content"] for each in left if each["role"] == "system"] == ([system] if system else [])
    kept = [each for each in left if each["role"] != "system"]
    assert kept[0]["role"] == "user"
    assert kept[-1]["content"] == f"q{turns - 1}"
    assert sum(each["role"] == "user" for each in kept) == max(1, turns - dropped)


def test_a_system_message_is_set_changed_and_removed_before_all_turns() -> None:
    made = held(2, None)
    for system in ("one", "two", None):
        made.system = system
        assert made.system == system
        assert made.turns == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"messages": 3}',
        '{"messages": [{"role": "user"}]}',
        "[" * 100_000,
        '{"messages": [{"role": "wizard", "content": "x"}]}',
    ],
)
def test_a_file_that_holds_no_conversation_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(Refused):
        conversation.read(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/nowhere", "/", "nul\0", "pipe", "large", "binary"])
def test_what_is_no_text_of_a_bearable_length_is_refused_and_never_waited_for(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LIMIT_BYTES + 1)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(Refused):
        read_text(tmp_path / path)


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    conversation.write(path, "pocket", held(1, None), {})
    with pytest.raises(Refused, match="is there already"):
        conversation.write(path, "pocket", held(2, None), {})
    assert json.loads(path.read_text())["messages"] == conversation.read(path) == [{"role": "user", "content": "q0"}]


@pytest.mark.parametrize("line", ["/etc/passwd is what?", "//", "no /help", "/2nd try"])
def test_only_a_word_behind_a_slash_is_a_command(line: str) -> None:
    assert command_of(line) is None


@pytest.mark.parametrize("line", ["/usr", "/", " / x"])
def test_a_slash_without_a_command_is_refused(line: str) -> None:
    with pytest.raises(Refused, match=r"no command /(usr)?; /help lists them"):
        command_of(line)


def test_a_command_may_be_written_in_capitals() -> None:
    assert command_of(" /Set seed  1 ") == (COMMANDS["/set"], "seed  1")


@given(st.text("ab\n", max_size=20))
def test_triple_quotes_hold_lines_together(text: str) -> None:
    assert is_open(f'"""{text}')
    assert not is_open(f'"""{text}"""')
    assert unquoted(f'"""{text}"""') == text.strip("\n")
    assert unquoted(text) == text
