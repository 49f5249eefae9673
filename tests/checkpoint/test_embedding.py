"""The facts of embeddings in a checkpoint's files; damage, and modules that cannot be computed, by their name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.checkpoint.embedding import EmbeddingFiles, read_embedding
from mlx_sidecar_protocol.errors import ModelLoadFailed


def module(kind: str, path: str, package: str = "sentence_transformers.models") -> dict[str, str]:
    return {"type": f"{package}.{kind}", "path": path}


def write(directory: Path, **files: Any) -> Path:
    """Write ``files``, by their names without ``.json``; a pooling goes to its folder."""
    for name, content in files.items():
        file = directory / ("1_Pooling/config.json" if name == "pooling" else f"{name}.json")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


MODULES = [module("Transformer", ""), module("Pooling", "1_Pooling")]


def test_a_directory_without_such_files_says_nothing(tmp_path: Path) -> None:
    assert read_embedding("m", tmp_path) == EmbeddingFiles()


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 32}, "cls"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_the_pooling_is_the_one_that_is_switched_on(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    files = read_embedding("m", write(tmp_path, modules=MODULES, pooling=config))
    assert (files.pooling, files.objection) == (pooling, "")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "attention"},
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
    ],
)
def test_a_pooling_that_is_not_computed_is_an_objection(tmp_path: Path, config: dict[str, Any]) -> None:
    files = read_embedding("m", write(tmp_path, modules=MODULES, pooling=config))
    assert files.pooling is None
    assert "1_Pooling/config.json" in files.objection


def test_vectors_have_length_one_if_the_list_of_modules_says_so_or_is_missing(tmp_path: Path) -> None:
    mean = {"pooling_mode_mean_tokens": True}
    assert read_embedding("m", write(tmp_path, pooling=mean)).normalize
    assert not read_embedding("m", write(tmp_path, modules=MODULES)).normalize
    newer = module("Normalize", "2_Normalize", "sentence_transformers.sentence_transformer.modules.normalize")
    assert read_embedding("m", write(tmp_path, modules=[*MODULES, newer])).normalize


def test_another_module_is_an_objection_by_its_name(tmp_path: Path) -> None:
    other = module("LayerNorm", "2_LayerNorm")
    assert "LayerNorm" in read_embedding("m", write(tmp_path, modules=[*MODULES, other])).objection


def test_the_most_tokens_of_a_text_are_those_of_sentence_bert(tmp_path: Path) -> None:
    assert read_embedding("m", write(tmp_path, sentence_bert_config={"max_seq_length": 256})).max_tokens == 256
    assert read_embedding("m", write(tmp_path, sentence_bert_config={"max_seq_length": None})).max_tokens is None


@pytest.mark.parametrize("told", [{}, {"prompts": None}, {"prompts": {}}, {"default_prompt_name": None}])
def test_files_that_tell_no_prompts_have_none(tmp_path: Path, told: dict[str, Any]) -> None:
    assert read_embedding("m", write(tmp_path, config_sentence_transformers=told)).prompts == {}


@given(st.dictionaries(st.text(min_size=1, max_size=256), st.text(max_size=4096), max_size=20))
def test_prompts_are_read_as_they_stand(tmp_path_factory: pytest.TempPathFactory, prompts: dict[str, str]) -> None:
    directory = write(tmp_path_factory.mktemp("prompts"), config_sentence_transformers={"prompts": prompts})
    assert read_embedding("m", directory).prompts == prompts


@pytest.mark.parametrize(
    "files",
    [
        {"modules": "{"},
        {"modules": {}},
        {"modules": [3]},
        {"modules": [module("Pooling", "../elsewhere")]},
        {"modules": [{"path": ""}]},
        {"pooling": "[]"},
        {"sentence_bert_config": "x"},
        {"config_sentence_transformers": "["},
        {"config_sentence_transformers": {"prompts": ["query: "]}},
        {"config_sentence_transformers": {"prompts": {"query": 3}}},
        {"config_sentence_transformers": {"prompts": {"": "x"}}},
        {"config_sentence_transformers": {"prompts": {"query": "\ud800"}}},
        {"config_sentence_transformers": {"prompts": {"query": "x" * 4097}}},
        {"config_sentence_transformers": {"prompts": {str(number): "x" for number in range(1025)}}},
    ],
    ids=str,
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadFailed) as refused:
        read_embedding("m", write(tmp_path, **files))
    name = next(iter(files))
    assert {"pooling": "config.json"}.get(name, f"{name}.json") in refused.value.message
