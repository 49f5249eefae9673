"""The number and size of a model directory's chat templates are checked before they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_sidecar.text import files
from mlx_sidecar.text.files import TEMPLATES_LIMIT, TEMPLATES_LIMIT_BYTES, ModelFiles
from mlx_sidecar_protocol.errors import ModelLoadFailed


def more(directory: Path, count: int, size_bytes: int = 2) -> None:
    """Write ``count`` additional templates as sparse files, which take no space on the disk."""
    (directory / "additional_chat_templates").mkdir()
    for number in range(count):
        with (directory / "additional_chat_templates" / f"t{number:05}.jinja").open("wb") as file:
            file.truncate(size_bytes)


def refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return why a directory is refused; no template may have been read."""

    def read(file: Path, name: str) -> str:
        raise AssertionError(f"{file} was read for {name}")

    monkeypatch.setattr(files, "_text", read)
    with pytest.raises(ModelLoadFailed) as failed:
        ModelFiles.read(directory, "m")
    return str(failed.value)


def test_as_many_templates_as_are_allowed_are_read(tmp_path: Path) -> None:
    more(tmp_path, TEMPLATES_LIMIT - 1, TEMPLATES_LIMIT_BYTES // TEMPLATES_LIMIT)
    (tmp_path / "chat_template.jinja").write_text("x")
    assert len(ModelFiles.read(tmp_path, "m").templates) == TEMPLATES_LIMIT


def test_one_more_is_refused_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more(tmp_path, TEMPLATES_LIMIT)
    (tmp_path / "chat_template.jinja").write_text("x")
    assert f"more than {TEMPLATES_LIMIT} chat templates" in refused(tmp_path, monkeypatch)


def test_thousands_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more(tmp_path, 3000, 0)
    assert f"more than {TEMPLATES_LIMIT} chat templates" in refused(tmp_path, monkeypatch)


def test_templates_that_are_too_large_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more(tmp_path, 60, 16 * 2**20)
    assert f"the limit is {TEMPLATES_LIMIT_BYTES}" in refused(tmp_path, monkeypatch)


@pytest.mark.parametrize("as_list", [True, False])
def test_templates_in_a_configuration_are_counted_too(tmp_path: Path, *, as_list: bool) -> None:
    named = {f"t{number}": "x" for number in range(TEMPLATES_LIMIT + 1)}
    listed = [{"name": name, "template": text} for name, text in named.items()]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": listed if as_list else named}))
    with pytest.raises(ModelLoadFailed, match=f"more than {TEMPLATES_LIMIT} chat templates"):
        ModelFiles.read(tmp_path, "m")
