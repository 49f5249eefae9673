"""Low-rank adapters of random numbers, written as mlx-lm and as PEFT write them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Shapes = Mapping[str, tuple[int, int]]
"""Inputs and outputs of projections, by their paths in the model."""

ATTENTION: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def shapes_of(directory: Path, targets: tuple[str, ...] = ATTENTION + MLP) -> dict[str, tuple[int, int]]:
    """Return the projections of a model of the llama family, from its config."""
    config = json.loads((directory / "config.json").read_text())
    width, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    sizes = dict(
        zip(
            ATTENTION + MLP,
            [
                (width, queries),
                (width, keys),
                (width, keys),
                (queries, width),
                (width, inner),
                (width, inner),
                (inner, width),
            ],
            strict=True,
        )
    )
    layers = range(config["num_hidden_layers"])
    return {f"model.layers.{layer}.{target}": sizes[target] for layer in layers for target in targets}


def matrices(shapes: Shapes, rank: int, seed: int, size: float = 0.3) -> dict[str, np.ndarray[Any, Any]]:
    """Return tensors in mlx-lm's names and layout, large enough to change answers."""
    drawn = np.random.default_rng(seed)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for path, (inputs, outputs) in shapes.items():
        found[f"{path}.lora_a"] = (drawn.standard_normal((inputs, rank)) / inputs**0.5).astype(np.float32)
        found[f"{path}.lora_b"] = (drawn.standard_normal((rank, outputs)) * size / rank**0.5).astype(np.float32)
    return found


def write_adapter(
    directory: Path,
    shapes: Shapes,
    *,
    rank: int = 4,
    seed: int = 0,
    scale: float = 2.0,
    size: float = 0.3,
    peft: bool = False,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> Path:
    """Make an adapter in ``directory``; members of ``config`` and ``tensors`` take the place of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    own = matrices(shapes, rank, seed, size)
    if peft:
        own = {_in_peft(name): np.ascontiguousarray(array.T) for name, array in own.items()}
        described: dict[str, Any] = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": scale * rank,
            "target_modules": sorted({path.rpartition(".")[2] for path in shapes}),
            "bias": "none",
            "task_type": "CAUSAL_LM",
        }
    else:
        keys = sorted({path.partition("layers.")[2].partition(".")[2] for path in shapes})
        described = {
            "fine_tune_type": "lora",
            "num_layers": -1,
            "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0, "keys": keys},
        }
    (directory / "adapter_config.json").write_text(json.dumps({**described, **(config or {})}))
    file = "adapter_model.safetensors" if peft else "adapters.safetensors"
    write_safetensors(directory / file, {**own, **(tensors or {})})
    return directory


def _in_peft(name: str) -> str:
    path, _, which = name.rpartition(".")
    return f"base_model.model.{path}.lora_{which[-1].upper()}.weight"


def write_safetensors(file: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    kinds = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int32": "I32"}
    header: dict[str, Any] = {}
    at = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": kinds[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values()))


def prompt(seed: int, length: int, vocabulary: int = 300) -> list[int]:
    """Return random tokens, the same for a seed."""
    drawn = random.Random(seed)
    return [drawn.randrange(vocabulary) for _ in range(length)]
