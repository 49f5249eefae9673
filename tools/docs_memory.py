"""Prints the memory that models take, computed from their shapes: the table of docs/choosing-a-model.md.

    python tools/docs_memory.py                 # the table
    python tools/docs_memory.py DIRECTORY …     # the same row for models of the llama family on this machine

Weights are counted as mlx-lm stores them: matrices at 4 or 8 bits bring a scale and an offset of 16 bits for each group
of 64 numbers, so 4.5 and 8.5 bits a number; norms stay at 16 bits. A token of context takes a key and a value for each
layer and each of its key heads.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

GROUP = 64
HALF_BITS = 16
CONTEXT = 8192


@dataclass(frozen=True)
class Shape:
    """A dense model of the llama family: the numbers of its config.json."""

    name: str
    width: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    inner: int
    vocabulary: int
    has_tied_embeddings: bool

    @property
    def matrix_numbers(self) -> int:
        """Numbers in matrices, which quantisation makes smaller."""
        attention = self.width * self.head_size * (2 * self.heads + 2 * self.key_heads)
        embeddings = self.vocabulary * self.width * (1 if self.has_tied_embeddings else 2)
        return self.layers * (attention + 3 * self.width * self.inner) + embeddings

    @property
    def parameters(self) -> int:
        return self.matrix_numbers + (2 * self.layers + 1) * self.width

    def weight_bytes(self, bits: int) -> int:
        """Return the bytes of the weights at 4, 8 or 16 bits."""
        overhead = 0 if bits == HALF_BITS else 2 * HALF_BITS / GROUP
        norms = self.parameters - self.matrix_numbers
        return int((self.matrix_numbers * (bits + overhead) + norms * HALF_BITS) / 8)

    def token_bytes(self, number_bytes: int) -> int:
        """Return the bytes of keys and values of one token, in numbers of 2 bytes (MLX) or 4 (native code)."""
        return 2 * self.layers * self.key_heads * self.head_size * number_bytes


SHAPES = (
    Shape("SmolLM2-135M", 576, 30, 9, 3, 64, 1536, 49152, True),
    Shape("Qwen3-0.6B", 1024, 28, 16, 8, 128, 3072, 151936, True),
    Shape("Llama-3.2-1B", 2048, 16, 32, 8, 64, 8192, 128256, True),
    Shape("Qwen3-1.7B", 2048, 28, 16, 8, 128, 6144, 151936, True),
    Shape("Llama-3.2-3B", 3072, 28, 24, 8, 128, 8192, 128256, True),
    Shape("Qwen3-4B", 2560, 36, 32, 8, 128, 9728, 151936, True),
    Shape("Mistral-7B-v0.3", 4096, 32, 32, 8, 128, 14336, 32768, False),
    Shape("Llama-3.1-8B", 4096, 32, 32, 8, 128, 14336, 128256, False),
    Shape("Qwen3-14B", 5120, 40, 40, 8, 128, 17408, 151936, False),
    Shape("Qwen3-32B", 5120, 64, 64, 8, 128, 25600, 151936, False),
)


def read(directory: Path) -> Shape:
    """Return the shape that a directory's config.json tells.

    Raises:
        KeyError: It is no dense model of the llama family; the key is the one that is missing.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    return Shape(
        directory.name,
        config["hidden_size"],
        config["num_hidden_layers"],
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or config["hidden_size"] // heads,
        config["intermediate_size"],
        config["vocab_size"],
        config.get("tie_word_embeddings", False),
    )


def table(shapes: tuple[Shape, ...]) -> str:
    """Return the rows of the page's table."""
    lines = [
        f"| model | parameters | 16 bits | 8 bits | 4 bits | {CONTEXT:,} tokens, MLX; native | 4 bits and those, MLX |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in shapes:
        weights = [_gigabytes(shape.weight_bytes(bits)) for bits in (16, 8, 4)]
        context = CONTEXT * shape.token_bytes(2)
        together = shape.weight_bytes(4) + context
        contexts = f"{_gigabytes(context)}; {_gigabytes(2 * context)}"
        cells = [shape.name, _count(shape.parameters), *weights, contexts, _gigabytes(together)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count < 10e9 else f"{count / 1e9:.1f} GB"


def _count(numbers: int) -> str:
    return f"{numbers / 1e6:.0f} M" if numbers < 1e9 else f"{numbers / 1e9:.2f} G"


def main(directories: list[str]) -> None:
    sys.stdout.write(table(tuple(read(Path(name)) for name in directories) or SHAPES))


if __name__ == "__main__":
    main(sys.argv[1:])
