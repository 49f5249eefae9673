"""The shim's own float32 products against OpenBLAS's, on weights of a layer, with one thread.

And the cost of `--numerics exact`, which uses no other products, for a whole model.

The model is the random 16M-parameter llama of benchmarks/blas.py. Each side of that comparison is a process of its own.

    python -m benchmarks.products
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ctypes import c_char_p, c_float, c_int, c_void_p
from typing import Any

import numpy as np

from .blas import CONFIG, VOCABULARY
from .measure import Row, interleaved, seconds, table

# Outputs and inputs of a weight, stored as mlx stores a linear layer: one row for each output.
WEIGHTS = [(1024, 384), (384, 1024), (1024, 1024), (8192, 384), (32000, 1024)]
ROWS = [1, 2, 4, 8, 12, 16, 32, 64, 128, 512]
# Seconds for one product, all rounds together; more would not change the median.
MULTIPLICATIONS, MOST_ROUNDS, FEWEST_ROUNDS = 2_000_000_000, 100, 5
_ROW_MAJOR, _NO_TRANS, _TRANS = 101, 111, 112

SIDES = ["exact", "fast", "plain"]
MODEL_ROUNDS = 5
PROMPT_TOKENS = 512
STREAMS = [1, 8, 32]
DECODE_STEPS = 12


def run() -> list[Row]:
    return [*_products(), *_models()]


def _products() -> list[Row]:
    shim, openblas = _libraries()
    sgemm, peer = _sgemm(shim.cblas_sgemm), _sgemm(openblas.scipy_cblas_sgemm)
    gemv = openblas.scipy_cblas_sgemv
    gemv.argtypes = [c_int] * 4 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p, c_int]
    return [_row(outputs, inputs, rows, sgemm, peer, gemv) for outputs, inputs in WEIGHTS for rows in ROWS]


def _row(
    outputs: int, inputs: int, rows: int, sgemm: Callable[..., Any], peer: Callable[..., Any], gemv: Callable[..., Any]
) -> Row:
    rng = np.random.default_rng(1)
    x, weight = (rng.standard_normal((count, inputs), dtype=np.float32) for count in (rows, outputs))
    y = np.empty((rows, outputs), dtype=np.float32)
    ends = (0.0, y.ctypes.data)

    def product(function: Callable[..., Any]) -> float:
        sizes = (_ROW_MAJOR, _NO_TRANS, _TRANS, rows, outputs, inputs)
        operands = (x.ctypes.data, inputs, weight.ctypes.data, inputs)
        return seconds(lambda: function(*sizes, 1.0, *operands, *ends, outputs))

    def one_row() -> float:
        operands = (weight.ctypes.data, inputs, x.ctypes.data, 1)
        return seconds(lambda: gemv(_ROW_MAJOR, _NO_TRANS, outputs, inputs, 1.0, *operands, *ends, 1))

    rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, MULTIPLICATIONS // (rows * outputs * inputs)))
    theirs = one_row if rows == 1 else lambda: product(peer)
    peer_s, ours_s, ratio = interleaved(theirs, lambda: product(sgemm), rounds)
    against = "gemv" if rows == 1 else "sgemm"
    what = (
        f"{rows} {'row' if rows == 1 else 'rows'} times a weight {outputs}×{inputs}: ours against OpenBLAS's {against}"
    )
    return Row(what, f"{ratio:.2f}× ({ours_s * 1e6:.0f} against {peer_s * 1e6:.0f} µs)")


def _sgemm(function: Any) -> Callable[..., Any]:
    function.argtypes = [c_int] * 6 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p, c_int]
    function.restype = None
    bound: Callable[..., Any] = function
    return bound


def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """The shim, bound as under `exact` but private to us, and the OpenBLAS behind it."""
    from mlx_sidecar.engine.execution.blas import THREADS_VARIABLE, find_openblas
    from mlx_sidecar_native import shim_path

    os.environ.setdefault(THREADS_VARIABLE, "1")
    path, library = shim_path(), find_openblas()
    if path is None or library is None:
        raise SystemExit("no BLAS shim or no scipy-openblas32 here: nothing to compare")
    shim, openblas = ctypes.CDLL(str(path)), ctypes.CDLL(str(library))
    shim.mlx_sidecar_blas_bind.argtypes = [c_void_p, c_int]
    shim.mlx_sidecar_blas_bind.restype = c_char_p
    if missing := shim.mlx_sidecar_blas_bind(openblas._handle, 1):
        raise SystemExit(f"{library} has no symbol {missing.decode()}")
    return shim, openblas


@contextmanager
def _side(numerics: str) -> Iterator[Callable[[], dict[str, float]]]:
    """A process that measures one round at each call: tokens per second by kind of work."""
    command = [sys.executable, "-m", "benchmarks.products", "child", numerics]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def measure() -> dict[str, float]:
            stdin.write("go\n")
            stdin.flush()
            speeds: dict[str, float] = json.loads(stdout.readline())
            return speeds

        yield measure
        stdin.close()


def _models() -> list[Row]:
    with ExitStack() as stack:
        sides = {name: stack.enter_context(_side(name)) for name in SIDES}
        rounds = [{name: measure() for name, measure in sides.items()} for _ in range(MODEL_ROUNDS)]
    return [_model_row(what, peer, rounds) for what in rounds[0]["exact"] for peer in ("fast", "plain")]


def _model_row(what: str, peer: str, rounds: list[dict[str, dict[str, float]]]) -> Row:
    ours, theirs = ([speeds[name][what] for speeds in rounds] for name in ("exact", peer))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    named = {"fast": "`fast`", "plain": "mlx's reference BLAS"}[peer]
    figure = f"{ratio:.2f}× ({statistics.median(ours):.0f} against {statistics.median(theirs):.0f} tok/s)"
    return Row(f"{what}, 16M float32: `exact` against {named}", figure)


def child(numerics: str) -> None:
    """Builds the model, then answers each line on stdin with one round's speeds."""
    if numerics != "plain":
        from mlx_sidecar.engine.execution.blas import preload

        policy = preload("exact" if numerics == "exact" else "fast")
        if not policy.active:
            sys.exit(f"the BLAS shim is not in force: {policy.reason}")
    import mlx.core as mx
    from mlx_lm.models import llama
    from mlx_lm.models.cache import make_prompt_cache

    mx.random.seed(7)
    model = llama.Model(llama.ModelArgs.from_dict(CONFIG))
    mx.eval(model.parameters())

    def speed(streams: int, length: int, steps: int) -> float:
        """Tokens per second of `steps` forward passes over `length` tokens of each stream."""
        tokens, cache = mx.random.randint(0, VOCABULARY, (streams, length)), make_prompt_cache(model)
        mx.eval(tokens)

        def work() -> None:
            for _ in range(steps):
                mx.eval(mx.argmax(model(tokens, cache=cache)[:, -1], axis=-1))

        return streams * length * steps / seconds(work)

    def speeds() -> dict[str, float]:
        decode = {f"decode, {count} {'stream' if count == 1 else 'streams'}": count for count in STREAMS}
        return {
            f"prefill of {PROMPT_TOKENS} tokens": speed(1, PROMPT_TOKENS, 1),
            **{what: speed(count, 1, DECODE_STEPS) for what, count in decode.items()},
        }

    speed(2, 2, 2)  # first touches: buffers, threads, mlx's own caches
    for _ in sys.stdin:
        print(json.dumps(speeds()), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2])
    else:
        print(table(run()))
