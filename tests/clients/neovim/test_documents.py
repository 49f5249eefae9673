"""README and help name what is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.clients.neovim.editor import PLUGIN, Editor
from tests.support.listening_pair import ListeningPair

README = (PLUGIN / "README.md").read_text(encoding="utf-8")
HELP = (PLUGIN / "doc" / "mlx-sidecar.txt").read_text(encoding="utf-8")

# All options by their full names, with a key for each group of keys.
OPTIONS = """
local names = {}
local function walk(options, path)
  for name, entry in pairs(options) do
    if type(entry[2]) == "function" then
      table.insert(names, path .. name)
    else
      walk(entry, path .. name .. ".")
    end
  end
end
walk(require("mlx_sidecar.config").OPTIONS, "")
return names
"""


@pytest.fixture
def command(pairs: ListeningPair) -> list[str]:
    return pairs.command


def test_the_readme_and_the_help_have_every_option_and_no_other(editor: Editor) -> None:
    options = {name for name in editor.lua(OPTIONS) if not name.startswith("keys.")}
    keys = {name.removeprefix("keys.") for name in editor.lua(OPTIONS) if name.startswith("keys.")}
    table = README.split("## Options")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_.]+)` ", table, re.MULTILINE)) == options
    section = HELP.split("*mlx-sidecar-options*")[1].split("=====")[0]
    assert set(re.findall(r"^([a-z_.]+)(?:  \(default|$)", section, re.MULTILINE)) - {"keys."} == options
    assert set(re.findall(r"^\| `([a-z_]+)` \| `<Plug>", README, re.MULTILINE)) == keys


def test_every_command_is_in_the_readme_and_the_help(editor: Editor) -> None:
    commands = [name for name in editor.call("nvim_get_commands", {}) if name.startswith("Sidecar")]
    assert len(commands) == 6
    for name in commands:
        assert re.search(rf"`:(?:\[range\])?{name}\b", README)
        assert f"*:{name}*" in HELP


@pytest.mark.parametrize("tag", ["mlx-sidecar", "mlx-sidecar-options", ":Sidecar", "<Plug>(mlx-sidecar-accept)"])
def test_the_help_opens_at_its_tags(editor: Editor, tmp_path: Path, tag: str) -> None:
    shutil.copytree(PLUGIN / "doc", tmp_path / "plugin" / "doc")
    editor.lua("vim.o.rtp = ... .. ',' .. vim.o.rtp; vim.cmd('helptags ' .. ... .. '/doc')", str(tmp_path / "plugin"))
    editor.lua("vim.cmd('help ' .. ...)", tag)
    assert editor.lua("return vim.fn.expand('%:t')") == "mlx-sidecar.txt"
    assert f"*{tag}*" in editor.lua("return vim.api.nvim_get_current_line()")
