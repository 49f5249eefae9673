"""Taking a ghost into the text: all of it, a word, a line."""

from __future__ import annotations

import pytest

from tests.clients.neovim.editor import Editor, says
from tests.support.listening_pair import ListeningPair

KEYS = {"accept": "<Tab>", "accept_word": "<C-Right>", "accept_line": "<C-Down>", "dismiss": "<C-]>"}


@pytest.fixture
def command(pairs: ListeningPair) -> list[str]:
    return pairs.command


def ghost(editor: Editor, text: str, typed: str = ">") -> None:
    """A ghost with this text behind what was typed."""
    editor.setup(model=says(text), keys=KEYS, complete={"stop": []})
    editor.keys("i" + typed)
    editor.wait_for_whole_ghost()


def test_accept_takes_all_of_it_and_leaves_the_cursor_behind_it(editor: Editor) -> None:
    ghost(editor, "one\n  two 漢\n")
    editor.keys("<Tab>")
    editor.wait_for_buffer(">one", "  two 漢")
    assert editor.call("nvim_win_get_cursor", 0) == [2, len("  two 漢".encode())]


def test_what_was_accepted_is_an_undo_step_of_its_own(editor: Editor) -> None:
    ghost(editor, "one\ntwo")
    editor.keys("<Tab>")
    editor.wait_for_buffer(">one", "two")
    editor.keys("<Esc>u")
    editor.wait_for_buffer(">")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("return a + b", ["return", " a", " +", " b"]),
        ("foo_bar(x)", ["foo_bar", "(", "x", ")"]),
        ("e\u0301te\u0301 o\u0302", ["e\u0301te\u0301", " o\u0302"]),
        ("naïve Straße", ["naïve", " Straße"]),
        ("漢字 かな", ["漢字", " かな"]),
        ("x\n    y", ["x", "\n    y"]),
        ("- 👨‍👩‍👧", ["-", " 👨‍👩‍👧"]),
        ("! 🇩🇪", ["!", " 🇩🇪"]),
    ],
)
def test_accept_word_takes_words_and_splits_no_character(editor: Editor, text: str, words: list[str]) -> None:
    ghost(editor, text)
    taken = ">"
    for word in words:
        editor.keys("<C-Right>")
        taken += word
        editor.wait_for_buffer(*taken.split("\n"))


def test_accept_word_keeps_the_rest_as_a_ghost_without_a_new_request(editor: Editor) -> None:
    ghost(editor, "return a + b")
    editor.keys("<C-Right><C-Right>")
    editor.wait_for_ghost(" + b")
    assert editor.requests() == 1


def test_accept_line_takes_one_line_at_a_time(editor: Editor) -> None:
    ghost(editor, "one\n  two\n\nfour")
    for taken in ([">one"], [">one", "  two"], [">one", "  two", ""], [">one", "  two", "", "four"]):
        editor.keys("<C-Down>")
        editor.wait_for_buffer(*taken)


def test_a_line_taken_leaves_the_lines_below_as_a_ghost(editor: Editor) -> None:
    ghost(editor, "one\n  two")
    editor.keys("<C-Down>")
    editor.wait_for_ghost("  two")
    assert editor.screen.lines()[:2] == [">one", "  two"]


def test_in_the_middle_of_a_line_the_text_behind_stays_behind(editor: Editor) -> None:
    editor.setup(model=says("inner"), keys=KEYS)
    editor.lua("vim.api.nvim_buf_set_lines(0, 0, -1, true, {'f()'})")
    editor.keys("f(a1")
    editor.wait_for_whole_ghost()
    editor.keys("<Tab>2")
    editor.wait_for_buffer("f(1inner2)")


def test_dismiss_drops_it_until_the_text_changes(editor: Editor) -> None:
    ghost(editor, "one")
    editor.keys("<C-]>")
    editor.wait_for_ghost()
    assert editor.requests() == 1
    editor.keys("x")
    editor.wait_for_ghost("one")


def test_without_a_ghost_a_key_does_what_it_does_in_neovim(editor: Editor) -> None:
    editor.setup(keys=KEYS, complete={"enabled": False})
    editor.keys("ia<Tab>b")
    editor.wait_for_buffer("a\tb")


@pytest.mark.parametrize(
    "mapping",
    [
        "vim.keymap.set('i', '<Tab>', '[key]')",
        "vim.keymap.set('i', '<Tab>', function() return '[key]' end, { expr = true })",
        "vim.keymap.set('i', '<Tab>', function() vim.api.nvim_put({ '[key]' }, 'c', false, true) end)",
        "vim.cmd([[imap <expr> <Tab> '[key]']])",
    ],
)
def test_without_a_ghost_a_key_does_what_it_was_mapped_to(editor: Editor, mapping: str) -> None:
    editor.lua(mapping)
    for _ in range(2):  # setting up again must not lose it
        editor.setup(keys=KEYS, complete={"enabled": False})
    editor.keys("ia<Tab>b")
    editor.wait_for_buffer("a[key]b")


def test_no_key_is_mapped_unless_it_was_asked_for(editor: Editor) -> None:
    keys = "return vim.tbl_map(function(key) return key.lhs end, vim.api.nvim_get_keymap('i'))"
    before = editor.lua(keys)
    editor.setup()
    assert editor.lua(keys) == before


def test_a_key_may_ask_where_completion_while_typing_is_off(editor: Editor) -> None:
    editor.setup(model=says("world"), keys={**KEYS, "complete": "<C-l>"}, complete={"enabled": False})
    editor.keys("ihello <C-l>")
    editor.wait_for_whole_ghost()
    editor.keys("<Tab>")
    editor.wait_for_buffer("hello world")
