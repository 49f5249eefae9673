"""Imports point one way, in the sources and in the modules that a real front has loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = ROOT / "runtime" / "mlx_sidecar"
SOURCE_ROOTS = [ROOT / name for name in ("runtime", "protocol", "native")]


def imported(file: Path) -> Iterator[str]:
    """Return absolute names of all modules that a file imports anywhere, inside functions too."""
    source_root = next(root for root in SOURCE_ROOTS if file.is_relative_to(root))
    base = file.relative_to(source_root).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(base[: len(base) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def roots(folder: Path) -> set[str]:
    return {name.split(".")[0] for file in folder.rglob("*.py") for name in imported(file)}


def test_the_protocol_imports_the_standard_library_and_pydantic_alone() -> None:
    foreign = roots(ROOT / "protocol") - sys.stdlib_module_names - {"mlx_sidecar_protocol", ""}
    assert foreign <= {"pydantic", "pydantic_core", "annotated_types"}


def test_native_code_knows_neither_protocol_nor_runtime() -> None:
    assert not roots(ROOT / "native") & {"mlx_sidecar", "mlx_sidecar_protocol"}


# The modules of the engine process, which may import mlx.
ENGINE_FILES = {"engine"}


@pytest.mark.parametrize("library", ["mlx", "mlx_lm", "transformers"])
def test_the_front_names_no_device_library(library: str) -> None:
    allowed = {RUNTIME / name for name in ENGINE_FILES} | {RUNTIME / "text" / "slow.py"}
    guilty = [
        str(file.relative_to(RUNTIME))
        for file in RUNTIME.rglob("*.py")
        if not any(file == path or path in file.parents for path in allowed)
        and any(name.split(".")[0] == library for name in imported(file))
    ]
    assert not guilty


def guilty_files(rooms: Iterable[str], forbidden: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the forbidden imports in these folders, with their files."""
    return [
        (str(file.relative_to(RUNTIME)), name)
        for room in rooms
        for file in (RUNTIME / room).rglob("*.py")
        for name in imported(file)
        if name.startswith(forbidden)
    ]


def test_the_engine_sees_neither_text_nor_json_rpc() -> None:
    others = ("mlx_sidecar.text", "mlx_sidecar.front")
    assert not guilty_files(["engine"], (*others, "jsonrpcserver", "jinja2", "tokenizers"))


def test_what_a_model_brings_is_interpreted_in_the_text_process_alone() -> None:
    rooms = [room.name for room in RUNTIME.iterdir() if room.is_dir() and room.name not in ("text", "__pycache__")]
    assert not guilty_files(rooms, ("mlx_sidecar.text", "tokenizers", "jinja2"))


def test_the_text_process_knows_neither_the_wire_nor_the_engine() -> None:
    assert not guilty_files(["text"], ("mlx_sidecar.front", "mlx_sidecar.engine", "jsonrpcserver"))


def test_a_running_front_has_loaded_no_device_library_and_nothing_it_does_not_need_yet() -> None:
    code = (
        "import sys; import mlx_sidecar.front.serve, mlx_sidecar.front.assembly\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'huggingface_hub', 'torch', 'numpy', 'rich', 'jinja2', 'jsonschema',"
        " 'psutil', 'tokenizers'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
