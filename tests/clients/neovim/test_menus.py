"""The sources for the completion menus of nvim-cmp and blink.cmp, driven as these plugins drive a source."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.neovim.editor import Editor, says
from tests.support.listening_pair import ListeningPair

# A menu shows entries whose filter text begins with the word before the cursor, and takes one by its edit.
MENU = """
menu = { entries = {} }
function menu.show(items)
  local column = vim.api.nvim_win_get_cursor(0)[2]
  local word = vim.api.nvim_get_current_line():sub(1, column):match("[%w_]*$")
  menu.entries = vim.tbl_filter(function(item)
    return vim.startswith(item.filterText or item.label, word)
  end, items)
  menu.answers = (menu.answers or 0) + 1
  vim.rpcnotify(1, "shown")
end
function menu.take(number)
  vim.lsp.util.apply_text_edits({ menu.entries[number].textEdit }, vim.api.nvim_get_current_buf(), "utf-8")
end
"""

CMP = """
local sources = {}
package.loaded["cmp"] = { register_source = function(name, source) sources[name] = source end }
require("cmp").register_source("mlx_sidecar", require("mlx_sidecar.cmp").new())
local source = sources.mlx_sidecar
function menu.open()
  assert(source:is_available() and source:get_debug_name() == "mlx_sidecar")
  assert(source:get_position_encoding_kind() == "utf-8")
  local column = vim.api.nvim_win_get_cursor(0)[2]
  local before = vim.api.nvim_get_current_line():sub(1, column)
  local params = { offset = column + 1, context = { cursor_before_line = before }, completion_context = {} }
  source:complete(params, function(response) menu.show(response.items) end)
end
function menu.close() source:complete({}, function() end) end
"""

BLINK = """
local source = require("mlx_sidecar.blink").new({}, { name = "mlx-sidecar" })
function menu.open()
  assert(source:enabled())
  local cancel = source:get_completions({ bufnr = 0 }, function(response) menu.show(response.items) end)
  menu.close = cancel
end
"""


@pytest.fixture
def command(pairs: ListeningPair) -> list[str]:
    return pairs.command


@pytest.fixture(params=[CMP, BLINK], ids=["nvim-cmp", "blink.cmp"])
def menu(request: pytest.FixtureRequest, editor: Editor) -> str:
    editor.lua(MENU)
    source: str = request.param
    return source


def opened(editor: Editor, menu: str, model: str, typed: str) -> list[Any]:
    """The entries of a menu that was opened behind what was typed."""
    editor.setup(model=model, complete={"debounce_ms": 1_000_000})  # no ghost beside the menu
    editor.lua(menu)
    editor.keys(f"i{typed}")
    editor.wait_for_buffer(typed)
    editor.lua("menu.open()")
    editor.wait_for_lua("menu.answers")
    entries: list[Any] = editor.lua("return menu.entries")
    return entries


def test_an_entry_goes_on_with_the_word_before_the_cursor(editor: Editor, menu: str) -> None:
    [entry] = opened(editor, menu, says("_words(text)"), "é = count")
    assert entry["label"] == "count_words(text)"
    editor.lua("menu.take(1)")
    editor.wait_for_buffer("é = count_words(text)")


def test_of_several_lines_the_first_may_be_taken_alone(editor: Editor, menu: str) -> None:
    whole, first = opened(editor, menu, says("(x):\n    return x"), "def f")
    assert (whole["label"], first["label"]) == ("f(x): …", "f(x):")
    assert whole["documentation"]["value"] == "f(x):\n    return x"
    editor.lua("menu.take(1)")
    editor.wait_for_buffer("def f(x):", "    return x")


def test_a_model_that_says_nothing_gives_no_entry(editor: Editor, menu: str) -> None:
    assert opened(editor, menu, "fake?text=", "x") == []


def test_an_error_is_told_once_and_the_menu_gets_its_answer(editor: Editor, menu: str) -> None:
    assert opened(editor, menu, "fake?fail_load=model_load_failed", "x") == []
    editor.lua("menu.answers = nil; menu.open()")
    editor.wait_for_lua("menu.answers")
    assert len(editor.messages()) == 1


def test_a_menu_that_is_closed_cancels_its_request(editor: Editor, menu: str) -> None:
    opened(editor, menu, says("y"), "x")
    editor.lua("require('mlx_sidecar.shared').options.model = ...", says("y" * 3000, delay_ms=20))
    editor.lua("menu.answers = nil; menu.open()")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 1")
    editor.lua("require('mlx_sidecar.shared').options.model = 'fake?text='; menu.close()")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 0")
    assert editor.lua("return menu.answers") is None
