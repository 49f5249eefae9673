"""The plugin where package managers put it, with a user's own start-up file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.neovim.editor import PATIENCE_S, PLUGIN, program

# What the README tells users to write, for each way.
NATIVE = "require('mlx_sidecar').setup({ keys = { accept = '<Tab>' } })"
SUBFOLDER = """
local plugin = { dir = vim.env.CHECKOUT } -- as lazy.nvim gives it to `config`
vim.opt.rtp:append(plugin.dir .. "/clients/neovim")
vim.cmd("runtime plugin/mlx_sidecar.lua")
require("mlx_sidecar").setup({ keys = { accept = "<Tab>" } })
"""
SEEN = """
local commands = vim.api.nvim_get_commands({})
local mapped = vim.fn.maparg("<Tab>", "i") ~= "" or vim.fn.mapcheck("<Tab>", "i") ~= ""
local help = pcall(vim.cmd, "help mlx-sidecar")
io.stdout:write(vim.fn.json_encode({ commands.Sidecar ~= nil, mapped, help }))
vim.cmd("qa!")
"""


def started(which: str, home: Path, script: str, **environment: str) -> str:
    """The output of an editor that starts as a user's does, with this script in its init.lua."""
    config = home / "config" / "nvim"
    config.mkdir(parents=True)
    (config / "init.lua").write_text(script)
    (home / "seen.lua").write_text(SEEN)
    places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    kept = {name: value for name, value in os.environ.items() if name != "VIMRUNTIME"}
    done = subprocess.run(
        [program(which), "--headless", "-i", "NONE", "-c", f"luafile {home / 'seen.lua'}"],
        env={**kept, **places, **environment},
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.fixture(params=["system", "wheel"])
def which(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_a_native_package_is_all_it_takes(which: str, tmp_path: Path) -> None:
    package = tmp_path / "data" / "nvim" / "site" / "pack" / "mlx" / "start" / "mlx-sidecar"
    shutil.copytree(PLUGIN, package)
    subprocess.run(
        [program(which), "--headless", "--clean", "-i", "NONE", "-c", f"helptags {package / 'doc'}", "-c", "qa"],
        check=True,
        capture_output=True,
    )
    assert started(which, tmp_path, NATIVE) == "[true, true, true]"


def test_a_plugin_manager_that_clones_the_whole_repository_finds_it_in_its_folder(which: str, tmp_path: Path) -> None:
    clone = tmp_path / "lazy" / "mlx-sidecar"
    shutil.copytree(PLUGIN, clone / "clients" / "neovim")
    assert started(which, tmp_path, SUBFOLDER, CHECKOUT=str(clone)) == "[true, true, false]"


def test_the_readme_has_the_lines_that_are_tried_here() -> None:
    page = (PLUGIN / "README.md").read_text()
    for line in SUBFOLDER.strip().splitlines()[1:]:
        assert line in page
