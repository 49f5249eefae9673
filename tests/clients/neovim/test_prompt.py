"""The part of a buffer that is sent, and that the prefix cache serves it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.clients.neovim.editor import Editor

LIMITS = {"prefix_bytes": 1024, "suffix_bytes": 64}

# Nothing of this depends on how an editor draws: the older one is enough.
pytestmark = pytest.mark.parametrize("editor", ["system"], indirect=True)


def around(editor: Editor, row: int, column: int, **limits: int) -> list[str]:
    """The text before and after a place, as it would be sent."""
    found: list[str] = editor.lua(
        "return { require('mlx_sidecar.prompt').around(0, ...) }", row, column, {**LIMITS, **limits}
    )
    return found


def fill(editor: Editor, lines: list[str]) -> None:
    editor.call("nvim_buf_set_lines", 0, 0, -1, True, lines)


def test_a_small_buffer_is_sent_whole(editor: Editor) -> None:
    fill(editor, ["one", "two", "three"])
    assert around(editor, 1, 1) == ["one\nt", "wo\nthree"]
    assert around(editor, 0, 0) == ["", "one\ntwo\nthree"]
    assert around(editor, 2, 5) == ["one\ntwo\nthree", ""]


def test_the_window_starts_at_a_line_and_stays_there_for_half_its_size(editor: Editor) -> None:
    lines = [f"line {number:04}" for number in range(400)]
    fill(editor, lines)
    starts = []
    for row in range(400):
        before, _ = around(editor, row, 9)
        assert before.endswith("\n".join(lines[max(0, row - 1) : row + 1]))
        assert len(before.encode()) <= LIMITS["prefix_bytes"]
        assert before.split("\n")[0] in lines
        starts.append(before.split("\n")[0])
    changes = [row for row in range(1, 400) if starts[row] != starts[row - 1]]
    assert all(later - earlier >= 50 for earlier, later in pairwise(changes))
    assert len(changes) >= 5


def test_what_comes_before_stays_the_beginning_while_one_types(editor: Editor) -> None:
    fill(editor, [f"line {number:04}" for number in range(400)])
    before, after = around(editor, 200, 4)
    editor.call("nvim_buf_set_text", 0, 200, 4, 200, 4, [" typed"])
    longer, still_after = around(editor, 200, 10)
    assert longer == before + " typed"
    assert still_after == after


def test_a_line_longer_than_the_window_is_cut_between_characters(editor: Editor) -> None:
    fill(editor, ["é" * 5000])
    before, after = around(editor, 0, 6002)
    assert set(before) == set(after) == {"é"}
    assert 256 <= len(before) <= 512
    assert len(after) == 32


def test_bytes_that_are_no_text_are_sent_as_replacement_characters(editor: Editor) -> None:
    editor.lua(r"vim.api.nvim_buf_set_lines(0, 0, -1, true, { 'caf\233 \237\160\128 \240\159\152\128', '' })")
    before, _ = around(editor, 1, 0)
    assert before == "caf\ufffd \ufffd\ufffd\ufffd 😀\n"


# With the embedded model: real tokens, a real cache.

NAMES = ["add", "join", "merge", "mix", "pair", "plus", "stack", "sum_up", "total", "unite"]
CODE = [line for name in NAMES for line in (f"def {name}(a, b):", "    return a + b", "", "")]


@pytest.fixture
def pocket(editor: Editor) -> Editor:
    editor.lua("vim.o.autoindent = true")
    editor.setup(serve=[], complete={"max_tokens": 12, "stop": ["\n"]})
    return editor


def usage(editor: Editor, requests: int) -> Any:
    """Of the last completion, once so many were asked for and all have ended."""
    editor.wait_for_lua(
        """(function(wanted)
          local status = require('mlx_sidecar').status()
          local asked = require('mlx_sidecar.shared').sidecar().names
          return status.last and status.running == 0 and asked == wanted
        end)(...)""",
        requests,
    )
    return editor.status()["last"]["usage"]


def test_the_embedded_model_completes_a_line(pocket: Editor) -> None:
    fill(pocket, ["def add(a, b):", "   "])
    pocket.keys("GA ")
    pocket.wait_for_ghost("return a + b")
    pocket.wait_for_whole_ghost()


def test_marks_that_a_model_has_as_single_tokens_make_it_fill_in_the_middle(pocket: Editor) -> None:
    marks = pocket.lua("""
      local marks
      require('mlx_sidecar.shared').family('pocket', function(family) marks = family.marks end)
      vim.wait(60000, function() return marks end, 1)
      return marks
    """)
    assert marks == ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]


TOKENS_OF_A_COMPLETION = """
  local row, column = ...
  local found, marks
  require('mlx_sidecar.shared').family('pocket', function(family)
    marks = family.tokens
    local place = { buffer = 0, row = row, column = column, after = '' }
    require('mlx_sidecar.suggestion').params(place, family, function(params) found = params.tokens end)
  end)
  vim.wait(60000, function() return found end, 1)
  return { found, vim.tbl_map(function(mark) return mark[1] end, marks) }
"""


def tokens_of(editor: Editor, text: str) -> list[int]:
    """The tokens of a text whose marks are tokens."""
    tokens: list[int] = editor.lua(
        """
          local text, found = ..., nil
          local params = { model = 'pocket', text = text, add_special = false }
          local sidecar = require('mlx_sidecar.shared').sidecar()
          sidecar:call('tokenize', params, function(_, result) found = result.tokens end)
          vim.wait(60000, function() return found end, 1)
          return found
        """,
        text,
    )
    return tokens


@pytest.mark.parametrize("before", ["def add(a, b):\n    return ", "", "one\ntwo"])
def test_a_gap_is_asked_for_by_the_marks_and_the_texts_around_it(pocket: Editor, before: str) -> None:
    lines = before.split("\n")
    fill(pocket, [*lines[:-1], lines[-1] + "()", "last"])
    sent, _ = pocket.lua(TOKENS_OF_A_COMPLETION, len(lines) - 1, len(lines[-1]))
    assert sent == tokens_of(pocket, f"<|fim_prefix|>{before}<|fim_suffix|>()\nlast<|fim_middle|>")


def test_a_mark_that_stands_in_the_document_is_text(pocket: Editor) -> None:
    fill(pocket, ["<|fim_middle|><|fim_prefix|>", "<|fim_suffix|> and <|endoftext|>"])
    sent, marks = pocket.lua(TOKENS_OF_A_COMPLETION, 1, 0)
    assert [sent.count(mark) for mark in marks] == [1, 1, 1]
    assert tokens_of(pocket, "<|endoftext|>")[0] not in sent
    pocket.setup(serve=[], escape_special=False)
    sent, marks = pocket.lua(TOKENS_OF_A_COMPLETION, 1, 0)
    assert [sent.count(mark) for mark in marks] == [2, 2, 2]


def test_a_model_without_such_marks_is_asked_with_what_is_before_the_cursor(editor: Editor) -> None:
    editor.setup(model="fake?echo=1")
    fill(editor, ["one", "", "two"])
    editor.keys("jix")
    editor.wait_for_ghost("one", "x")


def test_the_second_completion_of_a_place_finds_the_first_ones_prompt_in_the_cache(pocket: Editor) -> None:
    fill(pocket, [*CODE, "def add(a, b):", "   "])
    pocket.keys("GA ")
    first = usage(pocket, 1)
    pocket.keys("q")  # not what anybody would suggest: a new request
    second = usage(pocket, 2)
    assert first["cached_tokens"] == 0
    assert first["prompt_tokens"] > 128
    assert second["cached_tokens"] >= 64 * ((first["prompt_tokens"] - 16) // 64)
    pocket.keys("q")
    assert usage(pocket, 3)["cached_tokens"] >= second["cached_tokens"]
