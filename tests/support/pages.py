"""Pages of the documentation, and the sources that they speak of."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "runtime" / "mlx_sidecar"


class Page:
    """A page by its sections of the second level."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_text(encoding="utf-8")

    def section(self, heading: str) -> str:
        return self.text.split(f"\n## {heading}\n")[1].split("\n## ")[0]

    def files_in(self, heading: str) -> set[Path]:
        """The Python files that the section names, from the root or from the runtime package."""
        names = re.findall(r"`([\w/]+\.py)`", self.section(heading))
        return {next(path for base in (ROOT, PACKAGE) if (path := base / name).exists()) for name in names}


def files_with(names: set[str], string: str = "") -> set[Path]:
    """The files of protocol and runtime that define, import or use one of ``names``, or hold ``string`` as such."""

    def has(node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.ClassDef(name=name) | ast.alias(name=name):
                return name in names
            case ast.keyword(arg=str(name)):
                return name in names
            case ast.Constant(value=value):
                return value == string != ""
            case _:
                return False

    files = [file for folder in (ROOT / "protocol", PACKAGE) for file in folder.rglob("*.py")]
    return {file for file in files if any(map(has, ast.walk(ast.parse(file.read_text()))))}
