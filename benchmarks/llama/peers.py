"""Makes contenders; the files that they need are made with them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..serving.gguf_model import convert
from ..serving.models import make
from .contender import ROOT, Contender
from .ggufs import smollm2
from .library import FOLDER

MODELS = ROOT / ".venv" / "models"
COPY = "a copy of its keys and values"
FOUR_BIT, BFLOAT16 = MODELS / "smollm2-4bit", MODELS / "smollm2"


@dataclass(frozen=True)
class Peers:
    """``before``: the Python of another checkout. ``variant``: llama.cpp's kernels (haswell, …); None: its choice."""

    before: str | None = None
    variant: str | None = None

    def llama(self, ftype: str, threads: int = 1, *, flash: bool = True, gguf: Path | None = None) -> Contender:
        """``gguf``: another model than SmolLM2."""
        name = f"llama.cpp {ftype}{_threads(threads)}{'' if flash else ', no flash attention'}"
        path = gguf if gguf is not None else smollm2(ftype)
        options = {"model": str(path), "threads": threads, "flash": flash, "variant": self.variant}
        return Contender(name, "benchmarks.llama.contender_llama", options)

    def ours(self, numerics: str = "fast", threads: int = 1) -> Contender:
        """Ours on the 4-bit directory, loaded as a host's load without a dtype is."""
        name = f"ours 4-bit, {numerics}{_threads(threads)}"
        return Contender(name, "benchmarks.llama.contender_ours", _ours(FOUR_BIT, numerics, threads))

    def rounded(self) -> Contender:
        """Ours on the 4-bit directory, with activations rounded to 8 bits."""
        options = {"model": str(FOUR_BIT), "dtype": None, "settle": {"numerics": "fast", "activations": "int8"}}
        return Contender("ours 4-bit, int8 activations", "benchmarks.llama.contender_ours", options)

    def in_halves(self) -> Contender:
        """Ours on the 4-bit directory, with keys and values in float16, as llama.cpp has them."""
        options = {"model": str(FOUR_BIT), "dtype": None, "settle": {"numerics": "fast", "kv_cache_dtype": "float16"}}
        return Contender("ours 4-bit, fast, float16 cache", "benchmarks.llama.contender_ours", options)

    def ours_as(self, dtype: str | None) -> Contender:
        """Ours on the bfloat16 directory, loaded with a dtype."""
        name = f"ours {dtype or 'bfloat16 directory'}, fast"
        return Contender(name, "benchmarks.llama.contender_ours", _ours(BFLOAT16, "fast", 1, dtype))

    def earlier(self) -> list[Contender]:
        """Ours of the other checkout on the 4-bit directory, if there is one."""
        if self.before is None:
            return []
        return [Contender("ours before", "benchmarks.llama.contender_ours", _ours(FOUR_BIT, "fast", 1), self.before)]

    def over_pipes(self, model: Path = FOUR_BIT, *, warm: bool = False) -> list[Contender]:
        """Ours through the Python client, and that of the other checkout if there is one.

        ``warm``: the prompts are in the prefix cache.
        """
        pythons = {"ours over pipes": sys.executable}
        if self.before is not None:
            pythons["ours before over pipes"] = self.before
        options = {"model": str(model), "serve_options": [], **({"warm": True} if warm else {})}
        return [Contender(name, "benchmarks.llama.contender_rpc", options, each) for name, each in pythons.items()]

    @staticmethod
    def copy() -> Contender:
        """Return a copy in memory of a prompt's keys and values in float32."""
        config = json.loads((FOUR_BIT / "config.json").read_text())
        width = config["hidden_size"] // config["num_attention_heads"]
        token_bytes = 2 * 4 * config["num_hidden_layers"] * config["num_key_value_heads"] * width
        return Contender(COPY, "benchmarks.llama.contender_copy", {"token_bytes": token_bytes})

    def mlx_lm(self, name: str, dtype: str | None, *, shim: bool) -> Contender:
        """mlx-lm on the 4-bit directory; ``dtype``: what its weights are unpacked to, None: as they are stored."""
        options = {"model": str(FOUR_BIT), "dtype": dtype, "shim": shim}
        return Contender(f"mlx-lm {name}", "benchmarks.llama.contender_mlx_lm", options)


def random_16m() -> tuple[Path, Path]:
    """Return a random model of 16M parameters in float32: its directory, and the same as GGUF."""
    directory = make("16M", FOLDER)
    return directory, convert(directory)


def _threads(count: int) -> str:
    return "" if count == 1 else f", {count} threads"


def _ours(model: Path, numerics: str, threads: int, dtype: str | None = None) -> dict[str, Any]:
    settle: dict[str, Any] = {"numerics": numerics}
    if threads > 1:
        settle["threads"] = threads
    return {"model": str(model), "dtype": dtype, "settle": settle}
