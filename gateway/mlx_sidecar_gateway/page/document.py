"""The document of the live page: its parts put into one, and the policy that lets a browser load nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_PART = re.compile(r'<link rel="stylesheet" href="([\w.]+)">|<script src="([\w.]+)"></script>')


@dataclass(frozen=True)
class Document:
    """The HTML as it is sent, and its ``content-security-policy``."""

    html: bytes
    policy: str


@cache
def document() -> Document:
    """The document. index.html names its style and scripts as files, which stand in it as they are sent."""
    folder = Path(__file__).parent
    hashes: dict[str, list[str]] = {"style": [], "script": []}

    def part(found: re.Match[str]) -> str:
        element = "style" if found[1] else "script"
        text = (folder / (found[1] or found[2])).read_text("utf-8")
        hashes[element].append(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")
        return f"<{element}>{text}</{element}>"

    html = _PART.sub(part, (folder / "index.html").read_text("utf-8"))
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(hashes["script"]),
        "style-src": " ".join(hashes["style"]),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Document(html.encode(), "; ".join(f"{name} {value}" for name, value in rules.items()))
