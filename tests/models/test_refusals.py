"""A directory that was refused is read again when something in it has changed, and not before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlx_sidecar.link.messages import Load
from mlx_sidecar.models.refusals import Refusals, stamp
from mlx_sidecar_protocol.errors import ModelUnsupported


@pytest.fixture
def load(tmp_path: Path) -> Load:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "broken-link").symlink_to(tmp_path / "nowhere")
    return Load(1, "m", str(tmp_path))


@pytest.fixture
def refusals(load: Load) -> Refusals:
    refusals = Refusals()
    refusals.remember(load, ModelUnsupported("m", "odd"), stamp(load))
    return refusals


def test_a_refusal_is_repeated_with_its_reason(refusals: Refusals, load: Load) -> None:
    for _ in range(2):
        with pytest.raises(ModelUnsupported, match="'m' is not supported: odd"):
            refusals.check(load)


def test_another_type_another_directory_and_a_changed_file_are_tried(refusals: Refusals, load: Load) -> None:
    refusals.check(Load(2, "m", load.path, dtype="float32"))
    refusals.check(Load(3, "m", load.path + "/.."))
    os.utime(Path(load.path) / "config.json", ns=(1, 1))
    refusals.check(load)


def test_what_changed_while_it_was_read_is_tried(load: Load) -> None:
    refusals, before = Refusals(), stamp(load)
    (Path(load.path) / "model.safetensors").write_bytes(b"new")
    refusals.remember(load, ModelUnsupported("m", "odd"), before)
    refusals.check(load)


def test_refusals_are_bounded(load: Load) -> None:
    refusals = Refusals()
    for number in range(100):
        refusals.remember(Load(1, str(number), load.path), ModelUnsupported("m", "odd"), stamp(load))
    assert len(refusals._known) == 64
