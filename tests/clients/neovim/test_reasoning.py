"""Reasoning in the chat buffer: a folded section of its own, which goes back with its answer."""

from __future__ import annotations

import pytest

from tests.clients.neovim.editor import Editor, says
from tests.clients.neovim.test_chat import RENDER, answered, ask
from tests.support.listening_pair import ListeningPair

REASONED = "<think>\nit rains,\nso\n</think>\n\nTake a coat."
SECTION = ["=== reasoning ===", "", "", "it rains,", "so", "", "", "=== assistant ===", "", "Take a coat."]


@pytest.fixture
def command(pairs: ListeningPair) -> list[str]:
    return pairs.command


def chatting(editor: Editor, text: str, **options: int) -> None:
    editor.setup(model=says(text, **options), chat={"open": "only", **({"max_tokens": 12} if options else {})})
    editor.keys(":Sidecar<CR>")
    editor.wait_for_buffer("=== user ===", "", "")


EXCHANGE = ["=== user ===", "", "why?", "", *SECTION, "", "=== user ===", "", ""]


def test_reasoning_is_a_closed_fold_with_a_count_of_its_tokens(editor: Editor) -> None:
    chatting(editor, REASONED)
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    tokens = editor.status()["last"]["usage"]["reasoning_tokens"]
    row = editor.wait_for_text(f"── reasoned, {tokens} tokens")
    lines = editor.screen.lines()
    assert lines[row + 1] == "=== assistant ==="
    assert not any("it rains" in line for line in lines)
    editor.keys("5Gzo")
    editor.wait_for_text("it rains")


def test_undo_takes_the_reasoning_with_its_answer(editor: Editor) -> None:
    chatting(editor, REASONED)
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    editor.keys("u")
    answered(editor, *EXCHANGE[:3])
    editor.keys("<C-r>")
    answered(editor, *EXCHANGE)


def test_the_model_gets_its_reasoning_with_the_answer_unless_it_was_deleted(editor: Editor) -> None:
    chatting(editor, "x")
    read = "return require('mlx_sidecar.conversation').read(...)"
    messages = editor.lua(read, [*EXCHANGE[:-1], "and?"])
    answer = {"role": "assistant", "content": "Take a coat.", "reasoning_content": "it rains,\nso"}
    assert messages == [{"role": "user", "content": "why?"}, answer, {"role": "user", "content": "and?"}]
    assert "it rains,\nso" in editor.lua(RENDER, messages)
    assert editor.lua(read, [*EXCHANGE[:4], *EXCHANGE[11:14]])[1] == {"role": "assistant", "content": "Take a coat."}
    assert editor.lua(read, ["=== reasoning ===", "hm", "=== user ===", "why?"]) == [
        {"role": "user", "content": "why?"}
    ]


def test_reasoning_that_was_cut_off_stays_and_is_not_sent(editor: Editor) -> None:
    chatting(editor, REASONED, delay_ms=1)
    ask(editor, "why?")
    editor.wait_for_text("── cut off")
    reasoned = ["=== reasoning ===", "", "", "it r", "", "=== assistant ===", "", "", "", "=== user ===", "", ""]
    assert editor.text() == ["=== user ===", "", "why?", "", *reasoned]
    messages = editor.lua("return require('mlx_sidecar.conversation').read(...)", [*editor.text(), "and?"])
    assert [message["content"] for message in messages] == ["why?", "and?"]


def test_a_completion_shows_what_a_model_writes_as_it_is(editor: Editor) -> None:
    editor.setup(model=says(" 1 -- </think> x"))
    editor.keys("ilocal x =")
    editor.wait_for_ghost(" 1 -- </think> x")
