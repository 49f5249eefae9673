"""A refused directory is refused again at once, until there is a reason to look again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlx_sidecar.front.api.model_refusals import LASTS_S, ModelRefusals, signature
from mlx_sidecar.front.supervision.pending_calls import LoadLost
from mlx_sidecar_protocol.errors import EngineLost, ModelLoadFailed, ModelUnsupported, OutOfMemory, RpcError

KEY = ("m", "/m", None, None)


def seen(path: Path) -> ModelRefusals:
    refusals = ModelRefusals()
    refusals.remember(KEY, signature([str(path)]), ModelLoadFailed("m", "because"), 0.0)
    return refusals


def test_a_refused_directory_is_refused_again_until_it_changes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    refusals = seen(tmp_path)
    for _ in range(2):
        with pytest.raises(ModelLoadFailed, match="because"):
            refusals.check(KEY, signature([str(tmp_path)]), 1.0, explicit=True)
    (tmp_path / "config.json").write_text("{ }")
    refusals.check(KEY, signature([str(tmp_path)]), 1.0, explicit=True)


@pytest.mark.parametrize("change", ["content", "size", "name", "rights", "template", "gone"])
def test_whatever_changes_in_a_directory_changes_its_signature(tmp_path: Path, change: str) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")
    os.utime(file, (1, 1))
    before = signature([str(tmp_path)])
    if change == "content":
        os.utime(file, (2, 2))
    elif change == "size":
        file.write_text("{ }")
    elif change == "name":
        file.rename(tmp_path / "other.json")
    elif change == "rights":
        file.chmod(0o600)
    elif change == "template":
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates/a.jinja").touch()
    else:
        file.unlink()
    assert signature([str(tmp_path)]) != before


def test_a_refusal_does_not_last_for_ever_for_its_cause_may_not_be_in_the_files(tmp_path: Path) -> None:
    seen(tmp_path).check(KEY, signature([str(tmp_path)]), LASTS_S, explicit=False)


@pytest.mark.parametrize("error", [OutOfMemory(need_bytes=2, have_bytes=1), EngineLost("it ended")], ids=str)
def test_what_may_go_better_next_time_is_not_remembered(tmp_path: Path, error: RpcError) -> None:
    refusals = ModelRefusals()
    refusals.remember(KEY, signature([str(tmp_path)]), error, 0.0)
    refusals.check(KEY, signature([str(tmp_path)]), 0.0, explicit=False)


def test_another_way_to_load_a_directory_is_another_matter(tmp_path: Path) -> None:
    refusals = ModelRefusals()
    refusals.remember(KEY, signature([str(tmp_path)]), ModelUnsupported("m", "adapter"), 0.0)
    refusals.check(("m", "/m", "bfloat16", None), signature([str(tmp_path)]), 0.0, explicit=False)


def test_a_load_that_ended_engines_is_tried_again_for_those_alone_who_ask_for_it(tmp_path: Path) -> None:
    refusals = ModelRefusals()
    refusals.remember(KEY, signature([str(tmp_path)]), LoadLost("engines were lost 2 times"), 0.0)
    with pytest.raises(ModelLoadFailed, match="an explicit load tries again"):
        refusals.check(KEY, signature([str(tmp_path)]), 1.0, explicit=False)
    refusals.check(KEY, signature([str(tmp_path)]), 1.0, explicit=True)
