"""Random llama models of three sizes with pocket's tokenizer, and prompts for them.

python -m benchmarks.serving.models SIZE FOLDER
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlx_sidecar import pocket

from .request import Request

VOCABULARY = 8192
CONTEXT = 32768
# Named by their millions of parameters, the embedding shared with the output: 0.92, 16.7 and 97.
SIZES: dict[str, dict[str, int]] = {
    "1M": {
        "hidden_size": 64,
        "num_hidden_layers": 8,
        "intermediate_size": 192,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "16M": {
        "hidden_size": 384,
        "num_hidden_layers": 8,
        "intermediate_size": 1024,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
    },
    "100M": {
        "hidden_size": 768,
        "num_hidden_layers": 14,
        "intermediate_size": 2048,
        "num_attention_heads": 12,
        "num_key_value_heads": 6,
    },
}
# No contender ever draws the end of text, because the tokenizer knows this token and the model does not.
NEVER = "<|never|>"


def config(size: str) -> dict[str, Any]:
    return {
        **SIZES[size],
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": VOCABULARY,
    }


def make(size: str, folder: Path) -> Path:
    """Write the model of ``size`` below ``folder`` unless it is there, in a process of its own, which imports mlx."""
    path = folder / size
    if not path.exists():
        command = [sys.executable, "-m", "benchmarks.serving.models", size, str(path)]
        subprocess.run(command, check=True)
    return path


def write(size: str, path: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    path.mkdir(parents=True)
    mx.random.seed(7)
    model = llama.Model(llama.ModelArgs.from_dict(config(size)))
    mx.save_safetensors(str(path / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (path / "config.json").write_text(json.dumps(config(size)))
    write_tokenizer(path)


def write_tokenizer(path: Path) -> None:
    """Write pocket's tokenizer, with a name for every token, so that each token that is drawn has a text."""
    tokenizer = json.loads((pocket.PATH / "tokenizer.json").read_text())
    names = tokenizer["model"]["vocab"]
    names.update({f"Ġx{id_}": id_ for id_ in range(len(names), VOCABULARY)})
    never = {**tokenizer["added_tokens"][0], "id": VOCABULARY, "content": NEVER}
    tokenizer["added_tokens"].append(never)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((pocket.PATH / "tokenizer_config.json").read_text())
    settings.update(eos_token=NEVER, model_max_length=CONTEXT)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copy(pocket.PATH / "chat_template.jinja", path)


class Prompts:
    """An endless supply of prompts, no two alike, so that none is in a cache.

    They are made of words that are one token each, so that text and tokens say the same.
    """

    def __init__(self, seed: int, tokenizer_file: Path | None = None) -> None:
        """``tokenizer_file``: another one than pocket's."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(tokenizer_file or pocket.PATH / "tokenizer.json"))
        words = ((id_, tokenizer.decode([id_])) for id_ in range(tokenizer.get_vocab_size()))
        self._words = [(id_, word) for id_, word in words if _is_word(word) and tokenizer.encode(word).ids == [id_]]
        self._source = random.Random(seed)

    def request(self, tokens: int, max_tokens: int, **more: Any) -> Request:
        """Make a prompt of ``tokens`` tokens; ``more`` are other fields of Request."""
        ids, words = zip(*self._source.choices(self._words, k=tokens), strict=True)
        return Request(list(ids), "".join(words), max_tokens, **more)

    def requests(self, count: int, tokens: int, max_tokens: int, **more: Any) -> list[Request]:
        """Make ``count`` requests of ``max_tokens`` on average and at least half that, so that ends do not coincide."""
        least = max(1, max_tokens // 2)
        lengths = [self._source.randint(least, 2 * max_tokens - least) for _ in range(count)]
        return [self.request(tokens, length, **more) for length in lengths]


def _is_word(text: str) -> bool:
    return text.startswith(" ") and text[1:].isascii() and text[1:].isalpha()


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
