"""Models on this machine: brought, listed, shown and deleted, by hosts and at the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from mlx_sidecar import pocket
from tests.support.byte_host import PATIENCE_S
from tests.support.hub import COMMIT, serving
from tests.support.sidecar import ROOT, sidecar


def command(*words: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "-m", "mlx_sidecar", "models", *words]
    return subprocess.run(done, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home with no model in it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_model_is_pulled_listed_shown_and_deleted(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    opened = Event()
    opened.set()
    with serving(monkeypatch, home / "hub", asked=[], open=opened, sent=Event(), instead={}):
        assert f"lab/pocket is in {home}" in command("pull", "lab/pocket").stdout
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    listed = command("list", "--json")
    pulled = next(model for model in json.loads(listed.stdout)["models"] if model["name"] == "lab/pocket")
    assert pulled["source"] == "hub"
    assert pulled["revision"] == COMMIT
    assert pulled["architecture"] == "qwen3"
    assert pulled["parameters"] > 10**6
    assert pulled["size_bytes"] > 2 * pulled["parameters"]
    near = command("show", "lab/poket")
    assert near.returncode == 3
    assert "did you mean 'lab/pocket'?" in near.stderr
    gone = command("rm", "lab/pocket")
    assert gone.returncode == 0, gone.stderr
    assert not list(home.rglob("*.safetensors"))
    assert command("rm", "lab/pocket").returncode == 3


def test_a_host_sees_folders_and_what_is_loaded_and_deletes_only_what_mlx_sidecar_made(home: Path) -> None:
    mine, imported, broken = home / "mine" / "a", home / "cache" / "mlx-sidecar" / "imported" / "b", home / "mine" / "c"
    for folder in (mine, imported, broken):
        shutil.copytree(pocket.PATH, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (broken / "config.json").write_text('{"model_type": "../x"}')
    with sidecar() as host:
        host.call("load", {"model": str(imported)})
        models = host.call("local/list", {"folders": [str(home / "mine"), "/nowhere"]})["models"]
        by_path = {model["path"]: model for model in models}
        assert [by_path[str(each)]["source"] for each in (imported, mine)] == ["imported", "folder"]
        assert [by_path[str(each)]["loaded"] for each in (imported, mine)] == [True, False]
        assert "no name of an architecture" in by_path[str(broken)]["problem"]
        assert host.error("local/delete", {"model": str(mine)})["data"]["kind"] == "unsupported_parameter"
        assert host.error("local/delete", {"model": "pocket"})["data"]["kind"] == "unsupported_parameter"
        assert host.error("local/delete", {"model": "no/such"})["data"]["kind"] == "model_not_found"
        assert host.error("local/delete", {"model": str(imported)})["data"]["kind"] == "model_in_use"
        host.call("unload", {"model": str(imported)})
        assert host.call("local/delete", {"model": str(imported)})["freed_bytes"] > 10**6
    assert not imported.exists()
    assert mine.exists()


def test_a_copy_is_made_with_fewer_bits_and_what_cannot_be_copied_is_told_in_a_line(home: Path) -> None:
    made = command("convert", "pocket", "--output", str(home / "made"), "--bits", "4", "--group-size", "32")
    assert made.returncode == 0, made.stderr
    assert "4 bits, affine, groups of 32" in made.stdout
    assert (home / "made" / "model.safetensors").stat().st_size < 10**6
    again = command("convert", "pocket", "--output", str(home / "made"))
    assert (again.returncode, again.stderr) == (1, f"error: {home / 'made'} is there already\n")
    unknown = command("convert", "poket", "--output", str(home / "other"))
    assert unknown.returncode == 3
    assert unknown.stderr.endswith("did you mean 'pocket'?\n")
