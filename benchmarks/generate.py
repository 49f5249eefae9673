"""Generation over pipes against mlx-lm in its own process, with the same weights, prompts and BLAS, in turns.

One stream: ours against ``generate_step``, with every delta read and parsed. Sixteen at once: ours against the same
sixteen one after the other.

    python -m benchmarks.generate
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mlx_sidecar import pocket
from mlx_sidecar.host import Host

from .blas import CONFIG, DECODE_TOKENS, PROMPT_TOKENS, VOCABULARY
from .measure import Row, interleaved, seconds, table

ROUNDS = 7
STREAMS = 16
PROMPT = [(37 * n + 11) % 2000 for n in range(PROMPT_TOKENS)]
SHORT = PROMPT[:32]


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        subprocess.run([sys.executable, "-m", "benchmarks.generate", "write", folder], check=True)
        # No prefix cache, because prompts are repeated and their prefill is measured.
        with Host("--cache-limit-bytes", "0") as host, _peer(folder) as peer:
            host.call("load", {"model": folder})
            _one(host, path, DECODE_TOKENS)  # first touches
            one = interleaved(lambda: _one(host, path, DECODE_TOKENS), lambda: peer(DECODE_TOKENS), ROUNDS)
            first = interleaved(lambda: _one(host, path, 1), lambda: peer(1), ROUNDS)
            _many(host, path)
            many = interleaved(lambda: _many(host, path), lambda: STREAMS * _one(host, path, DECODE_TOKENS, SHORT), 3)
    return [
        Row(
            f"one stream, 16M, {PROMPT_TOKENS} + {DECODE_TOKENS} tokens: ours over pipes against mlx-lm in-process",
            f"{1 / one[2]:.2f}× ({one[0]:.3f} s against {one[1]:.3f} s)",
            "≥ 0.95×",
        ),
        Row(
            f"first token after {PROMPT_TOKENS} prompt tokens, likewise",
            f"{1 / first[2]:.2f}× ({first[0]:.3f} s against {first[1]:.3f} s)",
        ),
        Row(
            f"{STREAMS} requests of {len(SHORT)} + {DECODE_TOKENS} tokens at once against one after the other",
            f"{1 / many[2]:.1f}× as fast",
        ),
    ]


def _params(path: Path, tokens: int, prompt: list[int]) -> dict[str, Any]:
    return {"model": str(path), "tokens": prompt, "max_tokens": tokens, "ignore_eos": True}


def _one(host: Host, path: Path, tokens: int, prompt: list[int] = PROMPT) -> float:
    """Seconds for one streamed request."""
    return seconds(lambda: host.generate(_params(path, tokens, prompt), lambda _: None))


def _many(host: Host, path: Path) -> float:
    """Seconds for sixteen streamed requests at once."""

    def work() -> None:
        ids = [
            host.send("generate", {**_params(path, DECODE_TOKENS, SHORT), "stream": f"m{n}"}) for n in range(STREAMS)
        ]
        host.collect(ids)

    return seconds(work)


@contextmanager
def _peer(folder: str) -> Iterator[Any]:
    """Return a function that measures mlx-lm's loop in a process of its own: seconds for a prompt and n tokens."""
    command = [sys.executable, "-m", "benchmarks.generate", "peer", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        stdin, stdout = child.stdin, child.stdout

        def measure(tokens: int) -> float:
            stdin.write(f"{tokens}\n")
            stdin.flush()
            return float(json.loads(stdout.readline()))

        measure(DECODE_TOKENS)
        yield measure
        stdin.close()


def write(folder: str) -> None:
    """Write a random model with pocket's tokenizer."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    mx.random.seed(7)
    model = llama.Model(llama.ModelArgs.from_dict(CONFIG))
    mx.save_safetensors(f"{folder}/model.safetensors", dict(tree_flatten(model.parameters())))
    config = {**CONFIG, "max_position_embeddings": 4096, "vocab_size": VOCABULARY}
    Path(folder, "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(pocket.PATH / name, folder)


def peer(folder: str) -> None:
    """Answer each number on stdin with the seconds that mlx-lm needs for the prompt and so many tokens."""
    from mlx_sidecar.engine.execution.blas import preload

    preload("fast")
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(Path(folder))
    for line in sys.stdin:
        tokens = int(line)
        print(json.dumps(seconds(partial(_generate, model, mx.array(PROMPT), tokens))), flush=True)


def _generate(model: Any, prompt: Any, tokens: int) -> list[Any]:
    from mlx_lm.generate import generate_step

    return list(generate_step(prompt, model, max_tokens=tokens))


if __name__ == "__main__":
    if sys.argv[1:]:
        {"write": write, "peer": peer}[sys.argv[1]](sys.argv[2])
    else:
        print(table(run()))
