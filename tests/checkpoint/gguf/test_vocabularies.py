"""Real vocabularies that were fetched give llama.cpp's tokens; ``python -m benchmarks.gguf_import`` compares all."""

from __future__ import annotations

import pytest

from benchmarks.gguf_import import vocabularies

# The small ones, each of another splitting.
NAMES = ["deepseek-coder", "falcon", "gpt-2", "llama-spm", "phi-3", "starcoder"]


@pytest.mark.real
@pytest.mark.skipif(
    not vocabularies.FOLDER.is_dir(), reason="vocabularies are not fetched: python -m benchmarks.gguf_import"
)
@pytest.mark.parametrize("name", NAMES)
def test_tokens_of_a_real_vocabulary_are_llama_cpp_s(name: str) -> None:
    found = vocabularies.compare(vocabularies.FOLDER / f"ggml-vocab-{name}.gguf")
    assert (found.refused, found.differ) == ("", 0)
    assert found.texts > 40
