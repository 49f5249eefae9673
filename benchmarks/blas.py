"""The gain of the BLAS shim and the float32 policy on a Linux CPU: mlx-lm's loop over a random 16M-parameter llama.

Each side is a process of its own, because a BLAS cannot be exchanged once mlx is loaded; the sides take turns, round by
round, so that a drifting machine cancels out. `plain` is mlx-lm as installed, nothing of ours loaded.

    python -m benchmarks.blas
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from .measure import Row, seconds, table

ROUNDS = 3
PROMPT_TOKENS = 512
DECODE_TOKENS = 48
VOCABULARY = 8192
# 16.7 million parameters, the embedding shared with the output.
CONFIG = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 384,
    "num_hidden_layers": 8,
    "intermediate_size": 1024,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Speed:
    """Tokens per second of one round."""

    prefill: float
    decode: float


class Side:
    """A process that measures one round at each call."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.rounds: list[Speed] = []

    def measure(self) -> None:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write("go\n")
        self._child.stdin.flush()
        self.rounds.append(Speed(*json.loads(self._child.stdout.readline())))


@contextmanager
def side(blas: str, weights: str) -> Iterator[Side]:
    """``blas``: shim or plain. ``weights``: float32, bfloat16 or 4bit."""
    command = [sys.executable, "-m", "benchmarks.blas", "child", blas, weights]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield Side(child)
        assert child.stdin
        child.stdin.close()


def run() -> list[Row]:
    names = [("shim", "float32"), ("plain", "float32"), ("shim", "bfloat16"), ("shim", "4bit")]
    with ExitStack() as stack:
        sides = {name: stack.enter_context(side(*name)) for name in names}
        for _ in range(ROUNDS):
            for each in sides.values():
                each.measure()
    ours = sides["shim", "float32"].rounds
    plain, bfloat16, quantised = (sides[name].rounds for name in names[1:])
    return [
        _row("prefill, 16M float32: shim against plain mlx-lm", "prefill", ours, plain, "≥ 12×"),
        _row("decode, 16M float32, one stream: shim against plain mlx-lm", "decode", ours, plain, "≥ 1.4×"),
        _row("prefill, both with the shim: float32 against bfloat16 as stored", "prefill", ours, bfloat16),
        _row("decode, both with the shim: float32 against bfloat16 as stored", "decode", ours, bfloat16),
        _row("prefill, both with the shim: float32 against 4-bit as stored", "prefill", ours, quantised),
        _row("decode, both with the shim: float32 against 4-bit as stored", "decode", ours, quantised),
    ]


def _row(what: str, kind: str, ours: list[Speed], peer: list[Speed], asked: str = "") -> Row:
    mine, theirs = ([getattr(speed, kind) for speed in rounds] for rounds in (ours, peer))
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    figure = f"{ratio:.1f}× ({statistics.median(mine):.0f} against {statistics.median(theirs):.0f} tok/s)"
    return Row(what, figure, asked)


def child(blas: str, weights: str) -> None:
    """Builds the model, then answers each line on stdin with one round's speeds."""
    if blas == "shim":
        from mlx_sidecar.engine.execution.blas import preload

        policy = preload("fast")
        if not policy.active:
            sys.exit(f"the BLAS shim is not in force: {policy.reason}")
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.models import llama

    mx.random.seed(7)
    model = llama.Model(llama.ModelArgs.from_dict(CONFIG))
    if weights == "4bit":
        from mlx.nn import quantize

        quantize(model, group_size=64, bits=4)
    else:
        model.set_dtype(getattr(mx, weights))
    mx.eval(model.parameters())
    prompt = mx.random.randint(0, VOCABULARY, (PROMPT_TOKENS,))

    def speeds(decode_tokens: int) -> tuple[float, float]:
        tokens = generate_step(prompt, model, max_tokens=decode_tokens + 1)
        prefill_s = seconds(lambda: next(tokens))
        decode_s = seconds(lambda: list(tokens))
        return PROMPT_TOKENS / prefill_s, decode_tokens / decode_s

    speeds(4)  # first touches: buffers, threads, mlx's own caches
    for _ in sys.stdin:
        print(json.dumps(speeds(DECODE_TOKENS)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:4])
    else:
        print(table(run()))
