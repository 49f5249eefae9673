"""Makes a folder that has mlx-sidecar and a Python of its own, to be shipped within an application.

    .venv/bin/python tools/ship.py FOLDER              behind ``make setup``; Linux alone
    .venv/bin/python tools/ship.py --binaries FOLDER   the programs and libraries in it, a line each

The Python is a copy of the one that ``.venv`` was made with, without its tests and Tk. Libraries that its modules need
and not every Linux has (OpenSSL, libffi, SQLite and the like) lie beside it, and all are found from where they lie. The
engine is the wheel of this checkout; what it needs is copied from ``.venv``, without extras. Where the folder goes no
compiler, no Python and no network is needed, and nothing is ever written into it.
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from py_compile import PycInvalidationMode

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ENGINE = "mlx-sidecar"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"

# Parts of a Python that an engine has no use for, and what else was in its folders.
_LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests"),
    *("tkinter", "_tkinter*", "turtle*"),
)
_UNUSED = (".a", ".h", ".hpp", ".pyi", ".pyc")
# Every Linux for which there are wheels has these: https://peps.python.org/pep-0600/
_OF_EVERY_SYSTEM = re.compile(
    r"(ld-linux.*|lib(c|dl|m|pthread|rt|util|resolv|nsl|crypt|gcc_s|stdc\+\+))\.so[.\d]*|linux-vdso.*"
)

_LAUNCHER = """\
#!/bin/sh
# mlx-sidecar with the Python beside it, wherever this folder lies.
# PATH may lead nowhere, so that the system's own is asked.
here=$0
while [ -L "$here" ]; do
    to=$(command -p readlink "$here")
    case $to in /*) here=$to ;; *) here=${here%/*}/$to ;; esac
done
here=$(CDPATH= cd "${here%/*}/.." && pwd -P)
# A host may have a Python of its own; the engine's processes inherit this.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP
export PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1
# On a CPU MLX would look for a C++ compiler, which may be there, and half.
export MLX_DISABLE_COMPILE="${MLX_DISABLE_COMPILE:-1}"
exec "$here/python/bin/python3" -P -m mlx_sidecar "$@"
"""


class CannotShip(Exception):
    """No folder can be made here; the message says why."""


def ship(folder: Path) -> dict[str, int]:
    """Make ``folder``; returns the bytes of each part of it. Raises ``CannotShip``."""
    if sys.platform != "linux":
        raise CannotShip("only a Python on Linux is copied: docs/shipping.md says what a Mac would need")
    if folder.exists() and any(folder.iterdir()):
        raise CannotShip(f"{folder} is not empty")
    python, site = folder / "python", folder / "python" / "lib" / VERSION / "site-packages"
    _copy_python(python)
    for needed in _needed():
        _copy_distribution(needed, site)
    with tempfile.TemporaryDirectory() as built, zipfile.ZipFile(_wheel(Path(built))) as wheel:
        wheel.extractall(site)
    _write_launcher(folder / "bin" / "mlx-sidecar")
    mode = PycInvalidationMode.UNCHECKED_HASH  # which needs no times, and these change when it is moved
    for part in (python / "lib" / VERSION, site):
        compileall.compile_dir(part, quiet=2, workers=os.cpu_count() or 1, invalidation_mode=mode, stripdir=str(folder))
    return {
        "Python": _size(python) - _size(site),
        "the engine": sum(map(_size, site.glob("*mlx_sidecar*"))),
        "MLX": sum(
            _size(entry) for entry in site.iterdir() if entry.name.startswith("mlx") and "sidecar" not in entry.name
        ),
        "all": _size(folder),
    }


def binaries(folder: Path) -> Iterator[Path]:
    """The programs and libraries in ``folder``, each of which a signature would be for."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and _is_elf(path):
            yield path


def _copy_python(to: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(stdlib, to / "lib" / VERSION, ignore=_LEFT_OUT, symlinks=False)
    program = to / "bin" / "python3"
    program.parent.mkdir()
    shutil.copy2(Path(sys.executable).resolve(), program)
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        name = str(sysconfig.get_config_var("INSTSONAME"))
        shutil.copy2(Path(str(sysconfig.get_config_var("LIBDIR"))) / name, to / "lib" / name)
    for path in list(binaries(to)):
        _bundle(path, to / "lib")
    # It tells where Python was built and with what, which is nobody's matter where it goes.
    for described in (to / "lib" / VERSION).glob("_sysconfigdata*.py"):
        described.write_text(described.read_text().replace(sys.base_prefix, "/mlx-sidecar/python"))


def _bundle(path: Path, lib: Path) -> None:
    """Have a program or library find in ``lib`` what it needs, which is copied there unless every system has it."""
    for name, found in _libraries(path).items():
        if not _OF_EVERY_SYSTEM.fullmatch(name) and not (lib / name).exists():
            if not found:
                raise CannotShip(f"{path.name} needs {name}, which is not here")
            shutil.copy2(found, lib / name)
            _bundle(lib / name, lib)
    place = os.path.relpath(lib, path.parent)
    _run("patchelf", "--set-rpath", "$ORIGIN" if place == "." else f"$ORIGIN/{place}", str(path))


def _libraries(path: Path) -> dict[str, str]:
    """The libraries that ``path`` needs, and where this system finds them; empty where it does not."""
    told = re.findall(r"^\s*(\S+) => (\S+|not found)", _run("ldd", str(path)), re.MULTILINE)
    return {name: "" if found == "not found" else found for name, found in told}


def _needed() -> list[Distribution]:
    """All that the engine needs, as it is installed for this Python. Raises ``CannotShip``."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(ENGINE, "")], set[tuple[str, str]]()
    while waiting:
        name, extra = waiting.pop()
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            needed = canonicalize_name(requirement.name)
            found[needed] = distribution(needed)
            more = {(needed, each) for each in ("", *requirement.extras)} - seen
            waiting, seen = [*waiting, *more], seen | more
    return list(found.values())


def _copy_distribution(installed: Distribution, to: Path) -> None:
    for file in installed.files or ():
        if ".." in file.parts or file.suffix in _UNUSED or file.name in ("RECORD", "direct_url.json"):
            continue  # RECORD also lists the programs, which are left behind
        target = to / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(installed.locate_file(file)), target)


def _wheel(folder: Path) -> Path:
    """The wheel of this checkout, for this Python, from what was compiled before."""
    options = ["--no-deps", "--no-build-isolation", "--config-settings=build-dir=build/{wheel_tag}"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *options, str(ROOT)], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def _write_launcher(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(_LAUNCHER)
    path.chmod(0o755)


def _run(program: str, *words: str) -> str:
    beside = Path(sys.executable).with_name(program)
    command = [str(beside) if beside.exists() else program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--binaries", action="store_true", help="list the programs and libraries of a folder")
    given = parser.parse_args()
    if given.binaries:
        for path in binaries(given.folder):
            print(path.relative_to(given.folder))
        return
    try:
        sizes = ship(given.folder.absolute())
    except CannotShip as error:
        sys.exit(f"error: {error}")
    for part, size in sizes.items():
        print(f"{part}: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
