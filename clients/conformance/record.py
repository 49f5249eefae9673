"""Records the golden sessions, golden/NAME.jsonl, with the present sidecar, or compares them."""

import argparse
import difflib
import json
import shlex
import sys
from pathlib import Path

from mlx_sidecar_conformance.recording import record
from mlx_sidecar_conformance.sessions import SESSIONS

GOLDEN = Path(__file__).resolve().parent / "golden"


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the golden sessions.")
    parser.add_argument("--sidecar", default="mlx-sidecar", help="its command, as a shell would read it")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file is not current")
    parser.add_argument("only", nargs="*", metavar="SESSION")
    parser.add_argument("--list", action="store_true", help="print the names of the sessions, and no more")
    given = parser.parse_args()
    if given.list:
        sys.stdout.writelines(sorted(f"{session.name}\n" for session in SESSIONS))
        return 0
    if unknown := set(given.only) - {session.name for session in SESSIONS}:
        parser.error(f"no such session: {', '.join(sorted(unknown))}")
    current = True
    for session in SESSIONS:
        if not given.only or session.name in given.only:
            lines = record(session, shlex.split(given.sidecar))
            text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
            current &= is_written(GOLDEN / f"{session.name}.jsonl", text, given.check)
    return 0 if current else 1


def is_written(file: Path, text: str, only_compared: bool) -> bool:
    """Write ``text`` to ``file``, or only compare and show the difference; returns whether it now holds ``text``."""
    if not only_compared:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return True
    have = file.read_text(encoding="utf-8") if file.exists() else ""
    names = f"golden/{file.name}", "what the sidecar does"
    sys.stdout.writelines(difflib.unified_diff(have.splitlines(True), text.splitlines(True), *names, n=1))
    return have == text


if __name__ == "__main__":
    sys.exit(main())
