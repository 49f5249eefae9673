"""The engine's temporary folder: no other user can write there, or put another in its place."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlx_sidecar.front.supervision import private_folder as module
from mlx_sidecar.front.supervision.private_folder import private_folder, remove_own_folder

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")


@pytest.fixture(autouse=True)
def _nothing_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A home and a folder for temporary files of the test's own."""
    (tmp_path / "home").mkdir(mode=0o700)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    monkeypatch.setattr(module, "_shared", lambda: iter([shared]))
    yield
    remove_own_folder()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def users(tmp_path: Path) -> Path:
    return tmp_path / "shared" / f"mlx-sidecar-{os.geteuid()}"


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_nobody_else_can_write_the_folder_or_those_it_is_in_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        folder = Path(private_folder())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = [path for path in (folder, *folder.parents) if (tmp_path / "home") in path.parents]
    if mask != 0o777:
        assert made
    assert not any(path.stat().st_mode & 0o022 for path in made)


def test_it_stays_from_run_to_run_so_that_kernels_are_compiled_once(tmp_path: Path) -> None:
    first = private_folder()
    remove_own_folder()
    assert Path(first).is_dir()
    assert private_folder() == first
    assert (tmp_path / "home") in Path(first).parents


def test_without_a_home_it_is_where_temporary_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    assert private_folder() == str(users(tmp_path))
    assert not Path("/nowhere").exists()


def others_can_write(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def a_link(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")
    (path.parent / "elsewhere").mkdir(mode=0o700)


def a_file(path: Path) -> None:
    path.write_text("")


def of_another(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12345, -1)


@pytest.mark.parametrize("plant", [others_can_write, a_link, a_file, pytest.param(of_another, marks=ROOT)])
def test_what_others_may_have_prepared_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: object
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    assert callable(plant)
    plant(users(tmp_path))
    folder = Path(private_folder())
    assert folder != users(tmp_path)
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    remove_own_folder()
    assert not folder.exists()


def test_a_home_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "home").chmod(0o777)
    assert private_folder() == str(users(tmp_path))


def test_where_no_folder_is_safe_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(OSError, match="set TMPDIR"):
        private_folder()
