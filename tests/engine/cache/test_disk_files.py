"""Conversations in files that a host names."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_sidecar.engine.cache.disk.events import Exported, Imported, Scanned
from mlx_sidecar.engine.cache.segment import BLOCK, Segment
from tests.support.disk_loop import Start, loops
from tests.support.segments import EVER, IDENTITY, OTHER, prompt, same, segment


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with loops(tmp_path / "prefixes") as start:
        yield start


def test_a_conversation_is_exported_and_imported_even_without_a_directory(start: Start, tmp_path: Path) -> None:
    loop = start(directory=None)
    made, tokens, file = (
        segment(0, 200, dtype=mx.bfloat16, checkpoints=[(2,)]),
        prompt(200),
        tmp_path / "talk.safetensors",
    )
    file.write_text("an older one")
    loop.tier.export(1, file, IDENTITY, made, array("i", [*tokens, 0]))
    assert loop.told(Exported) == [Exported(1, file, file.stat().st_size)]
    loop.tier.import_(2, file, IDENTITY, EVER)
    (imported,) = loop.told(Imported)
    assert imported.tokens == tokens
    assert same(imported.segment, made)
    assert imported.nbytes == file.stat().st_size
    assert loop.tier.figures.state == "off"
    assert not loop.tier.write(IDENTITY, made, tokens)
    loop.tier.scan(IDENTITY)
    assert loop.told(Scanned) == [Scanned(IDENTITY, (), (), done=True)]
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_says_why_it_cannot_be(start: Start, tmp_path: Path) -> None:
    loop = start(directory=None)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder", "missing/file"):
        loop.tier.export(1, tmp_path / name, IDENTITY, segment(0, 9), prompt(9))
    loop.tier.export(1, tmp_path / "odd", IDENTITY, Segment(0, 1, (), (mx.array(1j),)), prompt(1))
    becauses = [result.because for result in loop.told(Exported)]
    assert becauses[:2] == ["what is there is no regular file"] * 2
    assert becauses[2] == "No such file or directory"
    assert "complex64" in becauses[3]
    assert {path.name for path in tmp_path.iterdir()} == {"link", "folder"}


def test_an_import_says_why_it_cannot_be(start: Start, tmp_path: Path) -> None:
    loop = start()
    tokens = prompt(2 * BLOCK)
    first, second = loop.written(tokens)
    (tmp_path / "cut").write_bytes(first.read_bytes()[:-1])
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"weight": mx.ones((2, 2))})
    asked: list[tuple[Path, str, int]] = [
        (tmp_path / "missing", IDENTITY, EVER),
        (tmp_path, IDENTITY, EVER),
        (tmp_path / "cut", IDENTITY, EVER),
        (tmp_path / "model.safetensors", IDENTITY, EVER),
        (first, OTHER, EVER),
        (first, IDENTITY, 100),
        (second, IDENTITY, EVER),
    ]
    for key, (path, identity, limit_bytes) in enumerate(asked):
        loop.tier.import_(key, path, identity, limit_bytes)
    results = loop.told(Imported)
    assert all(result.segment is None for result in results)
    for result, word in zip(
        results,
        ["No such file", "regular", "fit together", "somebody else", "other weights", "limit is 100", "token 64"],
        strict=True,
    ):
        assert word in result.because
    assert first.exists()
    assert loop.tier.figures.state == "on"
