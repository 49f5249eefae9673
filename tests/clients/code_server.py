"""A real editor: VS Code's server with its page, as code-server brings it, from packages of npm alone."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.node_client import PATIENCE_S, ROOT, node
from tests.support.programs import program

VERSION = "4.100.3"  # VS Code 1.100.3; the last that runs on Node 20
CACHE = ROOT / "build" / f"code-server-{VERSION}"
SERVER = CACHE / "node_modules" / "code-server"
_LISTENS = re.compile(r"HTTP server listening on (http://\S+?)/?$")
# No package's script is run: they would compile a terminal and fetch a search program, which nothing here needs. The
# one exception hashes passwords, and is asked for by the server's first line.
_QUIET = ("--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--prefer-offline")


def fetch() -> None:
    """Have the editor in ``CACHE``: about 400 MB, the first time some minutes."""
    finished = CACHE / "finished"
    if finished.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    npm = program("npm")
    vscode = SERVER / "lib" / "vscode"
    _run(npm, "install", *_QUIET, "--prefix", CACHE, f"code-server@{VERSION}", cwd=CACHE)
    for folder in (vscode, vscode / "extensions"):
        _run(npm, "install", *_QUIET, cwd=folder)
    prefix = Path(node()).resolve().parents[1]  # whose headers are there in most cases; npm's compiler would fetch them
    headers = {"npm_config_nodedir": str(prefix)} if (prefix / "include" / "node" / "node.h").exists() else {}
    build = {**os.environ, "npm_config_build_from_source": "true", **headers}
    _run(npm, "rebuild", "argon2", cwd=CACHE, env=build)
    asar = vscode / "node_modules.asar"  # where the editor looks for them, because its own build packs them there
    if not asar.is_symlink():
        asar.symlink_to("node_modules")
    finished.touch()


@contextmanager
def editor(home: Path, extension: Path, settings: str) -> Iterator[str]:
    """The address of an editor with an extension's package installed. All that it writes is in ``home``.

    ``settings`` are its user's, as JSON. They are read once: without the scripts of packages no file is watched.
    """
    data, extensions = home / "data", home / "extensions"
    file = data / "User" / "settings.json"
    file.parent.mkdir(parents=True)
    file.write_text(settings)
    options: list[str | Path] = [
        "--user-data-dir",
        data,
        "--extensions-dir",
        extensions,
        "--config",
        home / "config.yaml",
    ]
    command: list[str | Path] = [node(), SERVER / "out" / "node" / "entry.js", *options]
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
    environment["EXTENSIONS_GALLERY"] = "{}"  # it asks no shop of extensions
    _run(*command, "--install-extension", extension, cwd=home, env=environment)
    quiet = ["--disable-telemetry", "--disable-update-check", "--disable-workspace-trust"]
    listen = ["--auth", "none", "--bind-addr", "127.0.0.1:0", "--disable-getting-started-override"]
    with subprocess.Popen(
        [*command, *quiet, *listen], cwd=home, env=environment, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout
            said = (_LISTENS.search(line.rstrip()) for line in process.stdout)
            yield next(match[1] for match in said if match)
        finally:
            process.terminate()


def _run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=PATIENCE_S * 4, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
