"""Ghost text: what is drawn, and what becomes of it when keys come."""

from __future__ import annotations

import pytest

from tests.clients.neovim.editor import Editor, says
from tests.support.listening_pair import ListeningPair

FOREVER_MS = 600_000  # of prefill: such a completion only ends by being cancelled


@pytest.fixture
def command(pairs: ListeningPair) -> list[str]:
    return pairs.command


def completing(editor: Editor, text: str, **options: int) -> None:
    editor.setup(model=says(text, **options))


def never_began(editor: Editor) -> None:
    """Waits for the answer of a request that was cancelled before its first token."""
    editor.wait_for_lua("require('mlx_sidecar').status().running == 0")
    status = editor.status()
    assert status["state"] == "ready"
    # Cancelled in the queue it has no result, cancelled in prefill one without a token.
    assert status.get("last", {}).get("usage", {}).get("completion_tokens", 0) == 0


def ended(editor: Editor, reason: str) -> None:
    editor.wait_for_lua("((require('mlx_sidecar').status().last) or {}).finish_reason == ...", reason)


# Drawing.


def test_a_completion_is_drawn_behind_the_cursor_and_is_not_in_the_buffer(editor: Editor) -> None:
    completing(editor, "world")
    editor.keys("ihello ")
    editor.wait_for_ghost("world")
    assert editor.screen.lines()[0] == "hello world"
    assert editor.screen.cursor == (0, 6)
    assert editor.text() == ["hello "]


def test_a_completion_of_many_lines_is_drawn_between_the_lines_of_the_buffer(editor: Editor) -> None:
    completing(editor, "(a):\n\treturn a\n")
    editor.lua("vim.api.nvim_buf_set_lines(0, 0, -1, true, {'', 'after'}); vim.bo.tabstop = 4")
    editor.keys("idef f")
    editor.wait_for_ghost("(a):", "    return a")
    assert editor.screen.lines()[:3] == ["def f(a):", "    return a", "after"]
    assert editor.text() == ["def f", "after"]


def test_in_the_middle_of_a_line_a_ghost_hides_nothing(editor: Editor) -> None:
    completing(editor, "inner\nnever")
    editor.lua("vim.api.nvim_buf_set_lines(0, 0, -1, true, {'f()'})")
    editor.keys("f(a1")
    if editor.lua("return vim.fn.has('nvim-0.10')"):
        editor.wait_for_ghost("inner")
        assert editor.screen.lines()[0] == "f(1inner)"
    else:
        editor.wait_for_ghost("↳ inner")
        assert editor.screen.lines()[0] == "f(1) ↳ inner"
    assert editor.screen.cursor == (0, 3)


def test_wide_characters_take_the_cells_they_need(editor: Editor) -> None:
    completing(editor, "漢字\tx")
    editor.keys("i日")
    editor.wait_for_ghost("漢字  x")
    assert editor.screen.cursor == (0, 2)


def test_the_ghost_grows_while_the_answer_streams(editor: Editor) -> None:
    whole = "the quick brown fox"
    completing(editor, whole, delay_ms=5)
    editor.keys("ix ")
    editor.wait_for_ghost(whole)
    seen = [rows[0] for rows in editor.ghosts_seen if rows]
    assert len(seen) > 2
    assert all(whole.startswith(part) for part in seen)
    assert seen == sorted(seen, key=len)


# Keys.


def test_typing_what_the_ghost_says_keeps_it_without_a_new_request(editor: Editor) -> None:
    completing(editor, "world (à la carte)")
    editor.keys("ihello ")
    editor.wait_for_ghost("world (à la carte)")
    editor.keys("world (à")
    editor.wait_for_ghost(" la carte)")
    assert editor.text() == ["hello world (à"]
    assert editor.requests() == 1


def test_typing_ahead_of_a_streaming_ghost_keeps_its_request_running(editor: Editor) -> None:
    completing(editor, "abcdefghij", delay_ms=30)
    editor.keys("i>")
    editor.wait(lambda: editor.ghost() and editor.ghost()[0].startswith("abc"), "the beginning")
    editor.keys("ab")
    editor.wait_for_ghost("cdefghij")
    ended(editor, "stop")
    assert editor.requests() == 1


def test_typing_a_line_break_and_its_indent_is_typing_through_too(editor: Editor) -> None:
    completing(editor, "f():\n        pass")
    editor.lua("vim.o.autoindent = true")
    editor.keys("i    def ")
    editor.wait_for_ghost("f():", "        pass")
    editor.keys("f():<CR>")
    editor.wait_for_ghost("    pass")
    assert editor.text() == ["    def f():", "    "]
    assert editor.requests() == 1


def test_another_key_cancels_the_request_at_once_and_asks_anew(editor: Editor) -> None:
    editor.setup(model=says("x" * 2000, delay_ms=20), complete={"max_tokens": 2000})
    editor.keys("ia")
    editor.wait(editor.ghost)
    editor.keys("b")
    ended(editor, "cancelled")
    assert 0 < editor.status()["last"]["usage"]["completion_tokens"] < 2000
    editor.wait_for_lua("require('mlx_sidecar.shared').sidecar().names == 2")


def test_a_key_cancels_a_request_of_which_nothing_has_come(editor: Editor) -> None:
    completing(editor, "never", prefill_ms=FOREVER_MS)
    editor.keys("ia")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 1")
    editor.keys("<Esc>")
    never_began(editor)
    assert editor.ghosts_seen == []


def test_a_result_for_text_that_has_changed_meanwhile_is_dropped(editor: Editor) -> None:
    completing(editor, "stale", prefill_ms=FOREVER_MS)
    editor.keys("ia")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 1")
    # The change and the delta in one go: no event of Insert mode comes in between.
    editor.lua("""
      local call = select(2, next(require('mlx_sidecar.shared').sidecar().streams))
      vim.api.nvim_buf_set_lines(0, 0, -1, true, { "b" })
      call.handlers.delta({ stream = call.params.stream, seq = 0, offset = 0, text = "stale", tokens = { 1 } })
    """)
    editor.keys("<Esc>")
    never_began(editor)
    assert editor.text() == ["b"]
    assert editor.ghosts_seen == []


@pytest.mark.parametrize("key", ["<Left>", "<Esc>", "<C-o>:enew!<CR>"])
def test_going_elsewhere_drops_the_ghost(editor: Editor, key: str) -> None:
    completing(editor, "world")
    editor.keys("ihello ")
    editor.wait_for_ghost("world")
    editor.keys(key)
    editor.wait_for_ghost()


def test_a_completion_menu_hides_the_ghost(editor: Editor) -> None:
    completing(editor, "world")
    editor.lua("vim.api.nvim_buf_set_lines(0, 0, -1, true, {'', 'hello', 'help'})")
    editor.keys("ihel")
    editor.wait_for_ghost("world")
    editor.keys("<C-n>")
    editor.wait_for_ghost()
    assert editor.lua("return vim.fn.pumvisible()") == 1


# Where there is none.


@pytest.mark.parametrize(
    "where",
    [
        "vim.bo.buftype = 'nofile'",
        "vim.bo.filetype = 'secret'",
        "vim.b.mlx_sidecar_enabled = false",
        "require('mlx_sidecar').toggle()",
    ],
)
def test_where_completion_is_off_nothing_is_asked(editor: Editor, where: str) -> None:
    editor.setup(model=says("world"), complete={"disabled_filetypes": ["secret"]})
    editor.lua(where)
    editor.keys("ihello")
    editor.wait_for_buffer("hello")
    assert editor.status()["state"] == "off"


def test_it_can_be_asked_for_where_it_does_not_come_by_itself(editor: Editor) -> None:
    editor.setup(model=says("world"), complete={"enabled": False})
    editor.keys("ihello <Cmd>lua require('mlx_sidecar').complete()<CR>")
    editor.wait_for_ghost("world")
