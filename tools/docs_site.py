"""The hooks of the documentation's site, which mkdocs.yml names: pages from the whole repository, and the reference.

The site has the repository's own paths, so that a relative link leads to the same file there and in a checkout. A page
brings the pages and files that it links to; a link to a folder, which is no page, stays as its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs_reference import page_of, pages
from mlx_sidecar_protocol.registry import requests

REFERENCE = "docs/reference"
ROOTS = ("*.md", "docs/**/*.md", "examples/*/README.md")
_LINK = re.compile(r"(!?)\[((?:[^]\[]|\[[^]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that they have in a checkout on GitHub, and put the reference's pages into the menu."""
    config.mdx_configs["toc"] = {"slugify": anchor, "permalink": True}
    nav: list[Any] = config.nav or []
    for entry in nav:
        if "Reference" in entry:
            entry["Reference"] += _menu()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the theme, the pages of the repository with what they link to, and the reference."""
    root = Path(config.config_file_path).parent
    kept = Files([file for file in files if not file.src_dir or Path(file.src_dir) != Path(config.docs_dir)])
    for path in sorted(_gathered(root)):
        kept.append(File.generated(config, path, abs_src_path=str(root / path)))
    for name, text in pages().items():
        kept.append(File.generated(config, f"{REFERENCE}/{name}", content=text))
    return kept


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  # named so
    """Return the text without links that lead to folders."""
    folder = PurePosixPath(page.file.src_uri).parent

    def kept(link: re.Match[str]) -> str:
        target = _target(folder, link[3])
        return link[0] if target is None or files.get_file_from_path(target) else link[2]

    return _outside_code(kept, markdown)


def anchor(heading: str, separator: str) -> str:
    """Return a heading's anchor as GitHub makes it: lower case, no punctuation, a hyphen for each space."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def _menu() -> list[Any]:
    methods = [{spec.name: f"{REFERENCE}/{page_of(spec.name)}"} for spec in requests()]
    others = [{name.title(): f"{REFERENCE}/{name}.md"} for name in ("notifications", "errors", "types")]
    return [{"Overview": f"{REFERENCE}/index.md"}, {"Requests": methods}, *others]


def _gathered(root: Path) -> set[str]:
    """Return the paths of the pages of the repository, and of the files that they link to."""
    found: set[str] = set()
    waiting = [str(page.relative_to(root)) for pattern in ROOTS for page in sorted(root.glob(pattern))]
    while waiting:
        path = waiting.pop()
        if path in found or not (root / path).is_file():
            continue
        found.add(path)
        if path.endswith(".md"):
            waiting += _links(PurePosixPath(path).parent, (root / path).read_text(encoding="utf-8"))
    return found


def _links(folder: PurePosixPath, text: str) -> list[str]:
    targets = (_target(folder, link[3]) for link in _LINK.finditer(_FENCE.sub("", text)))
    return [target for target in targets if target]


def _target(folder: PurePosixPath, link: str) -> str | None:
    """Return the path within the repository that a relative link leads to, or None if it leads elsewhere."""
    path = link.partition("#")[0]
    if not path or "://" in path or path.startswith("mailto:"):
        return None
    parts: list[str] = []
    for part in (folder / path).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)


def _outside_code(change: Callable[[re.Match[str]], str], markdown: str) -> str:
    """Return the text with ``change`` done to each link that does not stand in a fenced block."""
    parts: list[str] = []
    end = 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(change, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(change, markdown[end:])])
