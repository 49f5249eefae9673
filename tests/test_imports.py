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
SOURCE_ROOTS = [ROOT / name for name in ("runtime", "protocol", "native", "gateway")]


def imported(file: Path, *, run: bool = False) -> Iterator[str]:
    """Absolute names of all modules that a file imports anywhere, inside functions too.

    With ``run`` those that are there for type checkers alone are left out.
    """
    source_root = next(root for root in SOURCE_ROOTS if file.is_relative_to(root))
    base = file.relative_to(source_root).parts[:-1]
    tree = ast.parse(file.read_text())
    unread = {id(node) for block in ast.walk(tree) if run and _is_for_types(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(base[: len(base) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def roots(folder: Path) -> set[str]:
    return {name.split(".")[0] for file in folder.rglob("*.py") for name in imported(file)}


def test_the_protocol_imports_the_standard_library_and_pydantic_alone() -> None:
    foreign = roots(ROOT / "protocol") - sys.stdlib_module_names - {"mlx_sidecar_protocol", ""}
    assert foreign <= {"pydantic", "pydantic_core", "annotated_types"}


def test_native_code_knows_neither_protocol_nor_runtime() -> None:
    assert not roots(ROOT / "native") & {"mlx_sidecar", "mlx_sidecar_protocol"}


def test_the_gateway_is_a_host_that_knows_the_client_alone() -> None:
    foreign = roots(ROOT / "gateway") - sys.stdlib_module_names - {"mlx_sidecar_gateway"}
    of_server = {"anyio", "httpx2", "orjson", "pydantic", "starlette", "uvicorn", "uvloop", "yaml"}
    assert foreign == {"mlx_sidecar_client", "opentelemetry", "prometheus_client"} | of_server


def test_surfaces_of_the_gateway_know_neither_its_core_nor_anything_that_sends() -> None:
    surfaces = ROOT / "gateway" / "mlx_sidecar_gateway" / "surfaces"
    names = {name for file in surfaces.rglob("*.py") for name in imported(file)}
    assert {name.split(".")[0] for name in names} <= {"mlx_sidecar_client", "mlx_sidecar_gateway", "orjson"} | set(
        sys.stdlib_module_names
    )
    assert not [name for name in names if name.startswith("mlx_sidecar_gateway.core")]


def imports_of(room: str, forbidden: Iterable[str], *, run: bool = False) -> list[tuple[str, str]]:
    """Return each file of a folder, or one file, with the ``forbidden`` modules and packages that it imports."""
    path = RUNTIME / room
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"{room} is not there any more"
    return [
        (str(file.relative_to(RUNTIME)), name)
        for file in files
        for name in imported(file, run=run)
        if any(name == package or name.startswith(f"{package}.") for package in forbidden)
    ]


def rooms(*names: str) -> list[str]:
    return [f"mlx_sidecar.{name}" for name in names]


ALL_ROOMS = sorted(path.name for path in RUNTIME.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())
PROCESSES = {"front", "text", "engine"}
DEVICE = ["mlx", "mlx_lm", "transformers"]
FOREIGN_TEXT = ["tokenizers", "jinja2"]  # these interpret files that come with a model


@pytest.mark.parametrize("process", sorted(PROCESSES))
def test_no_process_imports_another(process: str) -> None:
    assert not imports_of(process, rooms(*PROCESSES - {process}))


@pytest.mark.parametrize("room", ["link", "checkpoint", "observe", "config.py", "containment.py"])
def test_what_processes_share_knows_none_of_them(room: str) -> None:
    assert not imports_of(room, [*rooms(*PROCESSES), *DEVICE, *FOREIGN_TEXT])


@pytest.mark.parametrize("room", [room for room in ALL_ROOMS if room not in ("engine", "text")])
def test_what_is_not_the_engine_names_no_device_library(room: str) -> None:
    assert not imports_of(room, DEVICE)


def test_of_the_text_process_only_slow_tokenizers_name_one() -> None:
    assert {file for file, _ in imports_of("text", DEVICE)} == {"text/slow.py"}


@pytest.mark.parametrize("room", [room for room in ALL_ROOMS if room != "text"])
def test_what_a_model_brings_is_interpreted_in_the_text_process_alone(room: str) -> None:
    assert not imports_of(room, [*rooms("text"), *FOREIGN_TEXT])


def test_the_engine_calls_grammars_without_the_classes_that_hold_the_interpreter() -> None:
    assert not imports_of("engine", ["llguidance"])


@pytest.mark.parametrize("process", ["engine", "text"])
def test_json_rpc_is_spoken_by_the_front_alone(process: str) -> None:
    assert not imports_of(process, ["jsonrpcserver", "mlx_sidecar_protocol.envelope", "mlx_sidecar_protocol.framing"])


def test_the_wire_knows_connections_and_not_what_is_asked_over_them() -> None:
    assert not imports_of("front/wire", rooms("front.api", "front.streams", "front.output", "front.supervision"))


@pytest.mark.parametrize("room", ["api", "streams", "output", "supervision"])
def test_what_can_be_asked_knows_no_wire(room: str) -> None:
    assert not imports_of(f"front/{room}", ["jsonrpcserver", "mlx_sidecar_protocol.framing", *rooms("front.wire")])


@pytest.mark.parametrize("room", ["core", "scheduling"])
def test_decisions_of_the_engine_are_made_without_a_device(room: str) -> None:
    assert not imports_of(f"engine/{room}", DEVICE, run=True)


def test_commands_are_hosts_that_know_the_wire_alone() -> None:
    # ``gguf`` puts a model into the folder of which the front tells.
    known = {("cli/gguf.py", "mlx_sidecar.front.api.local_models.own_folder")}
    assert {file for file, _ in set(imports_of("cli", rooms(*PROCESSES))) - known} == {"cli/serve.py"}


def test_the_command_line_of_serve_loads_no_other_command_and_nothing_that_only_they_need() -> None:
    code = (
        "import sys; from mlx_sidecar.cli.arguments import command_line; command_line(['serve']).parse(['serve'])\n"
        "heavy = {'rich', 'prompt_toolkit', 'shtab', 'tomllib', 'platformdirs', 'difflib', 'json', 'pydantic'}\n"
        "others = {name for name in sys.modules if name.startswith('mlx_sidecar.cli.')}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}), sorted(others))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    own = ("argument_types", "arguments", "parser", "serve", "standard_streams")
    assert done.stdout.strip() == f"[] {sorted(f'mlx_sidecar.cli.{name}' for name in own)}"


def test_a_fake_engine_has_loaded_no_device_library_and_nothing_it_does_not_need_yet() -> None:
    code = (
        "import sys, mlx_sidecar.engine.__main__, mlx_sidecar.engine.fake.fake_engine\n"
        "heavy = {*sys.argv[1:], 'numpy', 'llguidance', 'tokenizers', 'pydantic', 'asyncio'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *DEVICE], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_running_front_has_loaded_no_device_library_and_nothing_it_does_not_need_yet() -> None:
    code = (
        "import gc, sys; from mlx_sidecar.front.serve import _import_opening; _import_opening()\n"
        "from mlx_sidecar.front.running import import_front; import_front(); assert gc.isenabled()\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'huggingface_hub', 'torch', 'numpy', 'rich', 'jinja2', 'jsonschema',"
        " 'psutil', 'tokenizers', 'email', 'zipfile', 'gguf'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_numpy_computes_without_its_docstrings() -> None:
    code = (
        "from mlx_sidecar.bare_import import without_numpy_docs; without_numpy_docs()\n"
        "import numpy as np; print(np.arange(4).sum(), np.ndarray.__doc__, np.linalg.det(np.eye(3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["6", "None", "1.0"]
