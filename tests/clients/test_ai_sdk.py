"""The provider for the AI SDK: its tests under the real one, and the package that would be published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients.node_client import ROOT, executable, need_built, node, run
from tests.support.listening_pair import ListeningPair
from tests.support.programs import missing, program

PROVIDER = ROOT / "clients" / "ai-sdk"


@pytest.fixture(autouse=True)
def built() -> None:
    """Skip where it was not built."""
    node()
    need_built()
    built = PROVIDER / "dist" / "index.js"
    if not built.is_file() or not (PROVIDER / "node_modules" / "ai").is_dir():
        missing("clients/ai-sdk/dist (make setup-clients)")
    oldest = min(path.stat().st_mtime for path in (PROVIDER / "dist").iterdir())
    assert all(source.stat().st_mtime <= oldest for source in (PROVIDER / "src").iterdir()), "old: make setup-clients"


def test_its_tests_under_the_real_ai_sdk_pass(pairs: ListeningPair) -> None:
    command = {"MLX_SIDECAR_TEST_COMMAND": json.dumps(pairs.command)}
    run(node(), "--test", "--test-timeout", "120000", "test/provider.test.mjs", cwd=PROVIDER, **command)


def test_the_example_of_its_readme_runs(tmp_path: Path) -> None:
    [example] = re.findall(r"```js\n(.*?)```", (PROVIDER / "README.md").read_text(), re.DOTALL)
    (tmp_path / "example.mjs").write_text(example)
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for package in (PROVIDER / "node_modules").iterdir():
        (modules / package.name).symlink_to(package)
    (modules / "mlx-sidecar-ai-sdk").symlink_to(PROVIDER)
    sidecar = str(executable(tmp_path))
    assert "mlx-sidecar" in run(node(), "example.mjs", cwd=tmp_path, MLX_SIDECAR=sidecar)


def test_the_package_holds_what_runs_and_its_licence() -> None:
    [packed] = json.loads(run(program("npm"), "pack", "--dry-run", "--json", "--ignore-scripts", cwd=PROVIDER))
    names = {file["path"] for file in packed["files"]}
    assert {"LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"} <= names
    assert all(name.startswith("dist/") for name in names - {"LICENSE", "README.md", "package.json"})
    package = json.loads((PROVIDER / "package.json").read_text())
    assert set(package["dependencies"]) == {"@ai-sdk/provider"}
    assert (
        package["peerDependencies"]["mlx-sidecar"]
        == json.loads((ROOT / "clients" / "typescript" / "package.json").read_text())["version"]
    )
