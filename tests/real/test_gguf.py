"""The real model's own GGUF file, imported: the same weights and tokens as in the directory that mlx made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import real_model
from mlx_sidecar.checkpoint.gguf.conversion import import_gguf
from mlx_sidecar.checkpoint.headers import read_header

from .prompts import prompts

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def imported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_gguf(real_model.GGUF, tmp_path_factory.mktemp("gguf") / "smollm2").path


def test_weights_are_the_same_to_the_bit(imported: Path) -> None:
    def tensors(directory: Path) -> dict[str, bytes]:
        file = directory / "model.safetensors"
        described, header_bytes = read_header("m", file)
        data = np.memmap(file, np.uint8, "r", offset=header_bytes + 8)
        return {f"{each.name} {each.kind} {each.shape}": data[each.begin : each.end].tobytes() for each in described}

    assert tensors(imported) == tensors(real_model.MODEL_4BIT)


def test_config_says_the_same(imported: Path) -> None:
    ours, theirs = (json.loads((each / "config.json").read_text()) for each in (imported, real_model.MODEL_4BIT))
    assert ours.pop("eos_token_id") == [theirs.pop("eos_token_id"), 0]  # <|endoftext|> ends a turn as well
    assert {name: value for name, value in ours.items() if name in theirs} == theirs
    assert set(ours) - set(theirs) == {"attention_bias", "mlp_bias"}


def test_tokens_are_the_same(imported: Path) -> None:
    ours, theirs = (Tokenizer.from_file(str(each / "tokenizer.json")) for each in (imported, real_model.MODEL_4BIT))
    assert ours.get_vocab() == theirs.get_vocab()
    for tokens in prompts():
        text = theirs.decode(tokens, skip_special_tokens=False)
        assert ours.encode(text).ids == theirs.encode(text).ids
