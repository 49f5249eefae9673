"""A text process that obeys the text that it is asked about: ``die`` of a signal, ``hang``, or its work.

It dies of a regular expression that says so, and of compiling the templates of a model whose edition begins with
``die``. It waits for the file behind ``wait``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from mlx_sidecar.config import Config
from mlx_sidecar.link.forms import RegexForm
from mlx_sidecar.link.text_messages import (
    CompileTemplates,
    Constrain,
    Encode,
    TextReady,
    TextRefused,
    TextReply,
    ToText,
)
from mlx_sidecar.text import __main__ as text_process
from mlx_sidecar.text.server import TextServer


class _Mortal(TextServer):
    def answer(self, message: ToText) -> TextReply | TextRefused:
        if isinstance(message, Encode):
            match message.text.split():
                case ["die", name]:
                    os.kill(os.getpid(), getattr(signal, name))
                case ["die-once", file] if not Path(file).exists():
                    Path(file).touch()
                    os.abort()
                case ["hang", file]:
                    Path(file).touch()
                    time.sleep(3600)
                case ["hang-once", file] if not Path(file).exists():
                    Path(file).touch()
                    time.sleep(3600)
                case ["wait-for", begun, file]:
                    Path(begun).touch()
                    while not Path(file).exists():
                        time.sleep(0.01)
                case ["babble"]:
                    return TextReady(os.getpid())  # type: ignore[return-value]  # it is not what was asked for
        if isinstance(message, Constrain) and isinstance(message.form, RegexForm):
            match message.form.pattern.split():
                case ["die", name]:
                    os.kill(os.getpid(), getattr(signal, name))
        if isinstance(message, CompileTemplates):
            match message.folder.edition.split():
                case ["die"]:
                    os.abort()
                case ["wait", file]:
                    while not Path(file).exists():
                        time.sleep(0.01)
        return super().answer(message)


def spawn(config: Config) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start one, as the front starts text processes."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "tests.support.mortal_text", "--fd", str(theirs.fileno())]
        command += ["--parent", str(os.getpid()), "--memory-limit-bytes", str(4 << 30), "--log-level", "critical"]
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        root = Path(__file__).parents[2]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=root, env=environment)
    return process, ours


if __name__ == "__main__":
    text_process.__dict__["TextServer"] = _Mortal
    text_process.main()
