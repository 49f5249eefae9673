"""The picture in the README is what Neovim draws. To write it anew: WRITE_SCREENSHOT=1 pytest FILE."""

from __future__ import annotations

import os
from pathlib import Path

from tests.clients.neovim.editor import PLUGIN, Editor, program, says
from tests.clients.neovim.svg import picture

PICTURE = PLUGIN / "screenshot.svg"

CODE = ["from collections import Counter", "", "", "def words(text):", "    return text.lower().split()", "", "", ""]
GHOST = "(text, n):\n    counts = Counter(words(text))\n    return counts.most_common(n)"
QUESTION = "What does Counter do?"
ANSWER = (
    "It counts. `Counter(words)` is a dict of\neach word and how often it came;\n`most_common(n)` sorts it for you."
)

# Everything that would differ between two runs or two versions is left out or fixed.
LOOK = """
vim.o.background, vim.o.laststatus, vim.o.ruler, vim.o.showmode = "dark", 3, false, false
vim.o.statusline, vim.o.fillchars = " %{expand('%:t')} %= mlx-sidecar ", "eob: "
vim.o.signcolumn, vim.o.number, vim.o.autoindent = "no", true, true
local look = {
  Normal = { fg = 0xcdd6f4, bg = 0x1e1e2e }, LineNr = { fg = 0x45475a }, StatusLine = { fg = 0xcdd6f4, bg = 0x313244 },
  WinSeparator = { fg = 0x45475a }, Statement = { fg = 0xcba6f7 }, Function = { fg = 0x89b4fa },
  Include = { fg = 0xcba6f7 }, Title = { fg = 0xfab387, bold = true }, Comment = { fg = 0x7f849c },
  markdownCode = { fg = 0xa6e3a1 },
}
for group, colours in pairs(look) do
  vim.api.nvim_set_hl(0, group, colours)
end
vim.cmd("syntax on")
"""


def test_the_picture_in_the_readme_is_current(tmp_path: Path) -> None:
    editor = Editor(program("wheel"), tmp_path, width=96, height=17)
    try:
        editor.lua(LOOK)
        models = {
            "complete": {"model": says(GHOST), "max_tokens": 500},
            "chat": {"model": says(ANSWER), "open": "botright 46vsplit"},
        }
        editor.setup(**models)
        editor.keys(":edit words.py<CR>")
        editor.wait_for_lua("vim.fn.expand('%:t') == 'words.py'")
        editor.call("nvim_buf_set_lines", 0, 0, -1, True, CODE)
        editor.keys(f":Sidecar {QUESTION}<CR>")
        editor.wait_for_lua("(require('mlx_sidecar').status().last or {}).finish_reason == 'stop'")
        editor.keys(":set nonumber<CR><C-w>pGodef top")
        editor.wait_for_ghost(*GHOST.split("\n"))
        editor.keys("<Cmd>echo ''<CR>")
        editor.wait(lambda: editor.screen.lines()[-1] == "")
        drawn = picture(editor.screen)
    finally:
        editor.close()
    if "WRITE_SCREENSHOT" in os.environ:
        PICTURE.write_text(drawn, encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == drawn
