"""The chat buffer: what is asked, how the answer comes, what undo takes away, what happens when things break."""

from __future__ import annotations

import pytest

from tests.clients.neovim.editor import Editor, says
from tests.support.listening_pair import ListeningPair


@pytest.fixture
def command(pairs: ListeningPair) -> list[str]:
    return pairs.command


def chatting(editor: Editor, text: str, **options: int) -> None:
    editor.setup(model=says(text, **options), chat={"open": "only"})
    editor.keys(":Sidecar<CR>")
    editor.wait_for_buffer("=== user ===", "", "")


def ask(editor: Editor, question: str) -> None:
    editor.keys(f"A{question}<Esc><CR>")


def answered(editor: Editor, *lines: str) -> None:
    """Waits until the buffer has these lines, and nothing runs."""
    editor.wait_for_buffer(*lines)
    editor.wait_for_lua("vim.bo.modifiable")


EXCHANGE = ["=== user ===", "", "why?", "", "=== assistant ===", "", "because", "of it", "", "=== user ===", "", ""]


def test_an_answer_streams_into_the_buffer_and_the_next_prompt_is_below_it(editor: Editor) -> None:
    chatting(editor, "because\nof it", delay_ms=2)
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    assert editor.call("nvim_win_get_cursor", 0) == [12, 0]
    assert editor.screen.lines()[:12] == [line.rstrip() for line in EXCHANGE]


def test_undo_takes_the_whole_answer_and_nothing_but_the_answer(editor: Editor) -> None:
    chatting(editor, "because\nof it", delay_ms=2)
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    editor.keys("u")
    answered(editor, *EXCHANGE[:3])
    editor.keys("<C-r>")
    answered(editor, *EXCHANGE)
    editor.keys("uu")
    answered(editor, "=== user ===", "", "")


def test_a_question_on_the_command_line_is_no_part_of_the_answers_undo_step(editor: Editor) -> None:
    chatting(editor, "because\nof it", delay_ms=2)
    editor.keys(":Sidecar why?<CR>")
    answered(editor, *EXCHANGE)
    editor.keys("u")
    answered(editor, *EXCHANGE[:3])


def test_what_is_typed_elsewhere_while_an_answer_comes_is_kept_when_it_is_undone(editor: Editor) -> None:
    editor.setup(model=says("a " * 40, delay_ms=5), complete={"enabled": False})
    editor.keys("ifirst ")
    editor.keys("<Esc>:Sidecar why?<CR>")
    chat = editor.wait_for_lua("(vim.fn.bufname() == 'sidecar://chat') and vim.fn.bufnr()")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 1")
    editor.keys("<C-w>pAsecond")
    editor.wait(lambda: editor.text(1) == ["first second"])
    editor.wait_for_lua("require('mlx_sidecar').status().running == 0")
    editor.keys(" third<Esc><C-w>pu")
    editor.wait(lambda: editor.text(chat) == EXCHANGE[:3])
    assert editor.text(1) == ["first second third"]
    editor.keys("<C-w>pu")
    editor.wait(lambda: editor.text(1) == ["first "])


def test_while_an_answer_comes_the_chat_cannot_be_changed(editor: Editor) -> None:
    chatting(editor, "x" * 3000, delay_ms=20)
    ask(editor, "why?")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 1")
    assert editor.lua("return vim.bo.modifiable") is False
    editor.keys("<CR>")
    editor.wait_for_text("an answer is coming")


def test_a_stopped_answer_keeps_what_has_come(editor: Editor) -> None:
    chatting(editor, "x" * 3000, delay_ms=20)
    ask(editor, "why?")
    editor.wait(lambda: any("xx" in line for line in editor.text()))
    editor.keys(":SidecarStop<CR>")
    editor.wait_for_text("── stopped")
    assert editor.status()["last"]["finish_reason"] == "cancelled"
    assert editor.text()[6].startswith("xx")
    assert editor.text()[-3:] == ["=== user ===", "", ""]


# Renders messages as the engine does, and waits for it.
RENDER = """
local text
require("mlx_sidecar.shared").sidecar():call("render", { model = "fake", messages = ... }, function(error, result)
  text = assert(not error and result).text
end)
vim.wait(60000, function() return text end, 1)
return text
"""


def test_the_conversation_is_what_the_buffer_says(editor: Editor) -> None:
    editor.setup(model="fake?echo=1", chat={"open": "only", "system": "Be brief."})
    editor.keys(":Sidecar<CR>")
    messages = [("system", "Be kind."), ("user", "one\ntwo"), ("assistant", "three"), ("user", "four")]
    edited = [line for role, content in messages for line in (f"=== {role} ===", *content.split("\n"), "")]
    editor.call("nvim_buf_set_lines", 0, 0, -1, True, edited)
    editor.keys("G<CR>")
    editor.wait_for_lua("(require('mlx_sidecar').status().last or {}).finish_reason == 'stop'")
    rendered = editor.lua(RENDER, [{"role": role, "content": content} for role, content in messages])
    assert rendered.strip() in "\n".join(editor.text()[len(edited) :])


def test_a_range_is_quoted_in_front_of_the_question(editor: Editor) -> None:
    editor.setup(model=says("because\nof it"), complete={"enabled": False})
    editor.lua("vim.bo.filetype = 'lua'; vim.api.nvim_buf_set_lines(0, 0, -1, true, {'x = 1', '-- ```', 'y = 2'})")
    editor.keys(":1,2Sidecar why?<CR>")
    editor.wait_for_lua("vim.fn.bufname() == 'sidecar://chat'")
    editor.wait(lambda: editor.text()[2:8] == ["```lua", "x = 1", "-- ```", "```", "why?", ""])


def test_without_a_question_nothing_is_asked(editor: Editor) -> None:
    chatting(editor, "never")
    editor.keys("<CR>")
    editor.wait_for_text("write a question")
    assert editor.status()["state"] == "off"


def test_the_model_of_the_chat_can_be_chosen(editor: Editor) -> None:
    chatting(editor, "never")
    editor.keys(f":SidecarModel {says('chosen')}<CR>")
    ask(editor, "who?")
    editor.wait(lambda: "chosen" in editor.text())


# When things break.


def test_an_answer_goes_on_when_the_engine_dies(editor: Editor) -> None:
    chatting(editor, "because\nof it", crash_after=4)
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    assert editor.status()["engine"]["restarts"] == 1


def test_a_question_that_got_no_answer_stays_the_last_message(editor: Editor) -> None:
    editor.setup(model="fake?fail_load=model_not_found", chat={"open": "only"})
    editor.keys(":Sidecar why?<CR>")
    editor.wait_for_text("── the answer broke off")
    assert editor.text() == ["=== user ===", "", "why?"]
    assert ":SidecarLoad" in "".join(editor.screen.lines())


@pytest.mark.parametrize("reason", ["length", "error"])
def test_how_an_answer_ended_is_said(editor: Editor, reason: str) -> None:
    options = {"error": {"fail_after": 2}, "length": {}}[reason]
    editor.setup(model=says("12345", **options), chat={"open": "only", "max_tokens": 3})
    editor.keys(":Sidecar why?<CR>")
    editor.wait_for_text({"length": "── cut off", "error": "── the answer broke off"}[reason])
    assert editor.text()[6] == {"length": "123", "error": "12"}[reason]


def test_wiping_the_chat_out_cancels_its_answer_and_the_next_chat_is_empty(editor: Editor) -> None:
    chatting(editor, "x" * 3000, delay_ms=20)
    ask(editor, "why?")
    editor.wait(lambda: any("xx" in line for line in editor.text()))
    editor.keys(":bwipeout!<CR>")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 0")
    editor.keys(":Sidecar<CR>")
    editor.wait_for_buffer("=== user ===", "", "")
    assert not [line for line in editor.messages() if "rror" in line]


def test_a_new_chat_says_how_to_send_until_that_was_done(editor: Editor) -> None:
    chatting(editor, "because\nof it")
    row = editor.wait_for_text("<CR> sends, in Insert mode <C-s>; <C-c> stops")
    assert editor.screen.lines()[row].startswith("=== user ===")
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    assert "<CR>" not in "".join(editor.screen.lines())
