"""The native products of stored weights against OpenBLAS's float32 ones of the same shape, with one thread.

Weights lie outside the caches. Times are of the processor, not of the clock on the wall, since other programs may run;
contenders take turns. A figure is OpenBLAS's time over ours, and, in brackets, the better one of the shares of two
limits: bytes of weights against what a plain reading loop gets, multiplications against OpenBLAS's largest products.
Arithmetics for few tokens are measured with as many as they are for.

    python -m benchmarks.kernels [FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from ctypes import CDLL, c_float, c_int, c_void_p
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_sidecar_native._native import cpu

from .measure import machine

# Rows and columns of weights, and numbers of tokens. Groups of 128 are those of the last only.
SHAPES = [
    ((49152, 576), [1, 4, 8, 32]),
    ((1536, 576), [1, 4, 8, 32, 128, 512]),
    ((576, 1536), [1, 2, 4, 8, 32, 512]),
]
GROUPS = (32, 64, 128)
# The arithmetics of quantised weights, and the most tokens each is for.
ARITHMETICS = {"exact": 512, "fast": 2, "int8": 4}
# Copies of weights are taken in turn until they are this many bytes, far more than a cache has.
COPIES_BYTES = 64 << 20
ROUND_MULTIPLICATIONS, ROUNDS = 20_000_000, 7
READ_BYTES, LARGEST = 128 << 20, 1024
_ROW_MAJOR, _NO_TRANS, _TRANS = 101, 111, 112

Product = Callable[[int], None]


@dataclass(frozen=True)
class Limits:
    """The bytes that this processor reads a second, and its multiply-adds a second, with one thread."""

    bytes_per_s: float
    multiplications_per_s: float


@dataclass(frozen=True)
class Contender:
    """One way to store weights and to multiply them; ``group`` is 0 where weights have no scales."""

    kind: str
    group: int = 0
    arithmetic: str = "exact"

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.group}, {self.arithmetic}" if self.group else self.kind

    @property
    def bits(self) -> int:
        return {"q4": 4, "q8": 8, "bfloat16": 16, "float32": 32}[self.kind]

    @property
    def weight_bytes(self) -> float:
        """Bytes of one weight, with its share of a scale and a bias of two bytes each."""
        return self.bits / 8 + (4 / self.group if self.group else 0)

    def takes(self, columns: int, tokens: int) -> bool:
        """Whether a row of so many columns has whole groups, and the arithmetic is for so many tokens."""
        return tokens <= ARITHMETICS[self.arithmetic] and (not self.group or columns % self.group == 0)


CONTENDERS = [
    Contender("float32"),
    Contender("bfloat16"),
    *(Contender(kind, group, how) for kind in ("q8", "q4") for group in GROUPS for how in ARITHMETICS),
]


@dataclass(frozen=True)
class Figure:
    """One product: OpenBLAS's time over ours, ours, and its shares of the limits."""

    kernels: str
    rows: int
    columns: int
    tokens: int
    contender: str
    ratio: float
    ours_s: float
    memory_share: float
    arithmetic_share: float


class OpenBlas:
    """Float32 products of the OpenBLAS that the sidecar puts in front of mlx."""

    def __init__(self) -> None:
        from mlx_sidecar.engine.execution.blas import find_openblas

        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        path = find_openblas()
        if path is None:
            raise SystemExit("no scipy-openblas32 here: nothing to compare with")
        library = CDLL(str(path))
        self._gemm, self._gemv = library.scipy_cblas_sgemm, library.scipy_cblas_sgemv
        self._gemm.argtypes = [c_int] * 6 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p, c_int]
        self._gemv.argtypes = [c_int] * 4 + [c_float, c_void_p, c_int, c_void_p, c_int, c_float, c_void_p, c_int]

    def multiply(self, weight: NDArray[np.float32], x: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        (rows, columns), tokens = weight.shape, len(x)
        w, from_, to = weight.ctypes.data, x.ctypes.data, out.ctypes.data
        if tokens == 1:
            self._gemv(_ROW_MAJOR, _NO_TRANS, rows, columns, 1.0, w, columns, from_, 1, 0.0, to, 1)
        else:
            sizes = (_ROW_MAJOR, _NO_TRANS, _TRANS, tokens, rows, columns)
            self._gemm(*sizes, 1.0, from_, columns, w, columns, 0.0, to, rows)


def copies(raw: NDArray[Any]) -> list[NDArray[Any]]:
    return [raw.copy() for _ in range(max(1, min(64, COPIES_BYTES // raw.nbytes)))]


def ours(rows: int, columns: int, contender: Contender, x: NDArray[np.float32]) -> Product:
    """Return a product with the copy of the weights that its argument counts."""
    kind, group = contender.kind, contender.group
    rng = np.random.default_rng(1)
    out = np.empty((len(x), rows), np.float32)
    if group:
        raw: NDArray[Any] = rng.integers(0, 256, (rows, columns * contender.bits // 8), dtype=np.uint8)
    else:
        numbers = rng.standard_normal((rows, columns), dtype=np.float32)
        raw = numbers if kind == "float32" else (numbers.view(np.uint32) >> 16).astype(np.uint16)
    memory: list[NDArray[Any]] = copies(raw)

    def matrix(part: NDArray[Any]) -> cpu.Matrix:
        if not group:
            return cpu.Matrix(kind, rows, columns, part)
        scale, bias = rng.standard_normal((2, rows, columns // group), dtype=np.float32).astype(np.float16)
        memory.extend((scale, bias))
        return cpu.Matrix(kind, rows, columns, part, scale, bias, group=group, scale_format="float16")

    matrices = [matrix(part) for part in memory.copy()]

    def multiply(turn: int) -> None:
        assert memory  # named so that it stays: matrices refer to it by its address
        cpu.multiply(matrices[turn % len(matrices)], x, out, contender.arithmetic, 0, rows)

    return multiply


def theirs(openblas: OpenBlas, rows: int, columns: int, x: NDArray[np.float32]) -> Product:
    weights = copies(np.random.default_rng(1).standard_normal((rows, columns), dtype=np.float32))
    out = np.empty((len(x), rows), np.float32)
    return lambda turn: openblas.multiply(weights[turn % len(weights)], x, out)


def cpu_seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def timed(product: Product, first: int, turns: int) -> float:
    """Seconds of the processor for one product."""

    def work() -> None:
        for turn in range(first, first + turns):
            product(turn)

    return cpu_seconds(work) / turns


def limits(openblas: OpenBlas) -> Limits:
    numbers = np.ones(READ_BYTES // 8, np.int64)
    read_s = min(cpu_seconds(numbers.max) for _ in range(5))
    x = np.ones((LARGEST, LARGEST), np.float32)
    out = np.empty_like(x)
    multiply_s = min(cpu_seconds(lambda: openblas.multiply(x, x, out)) for _ in range(5))
    return Limits(READ_BYTES / read_s, LARGEST**3 / multiply_s)


def measure(kernels: str, openblas: OpenBlas, most: Limits) -> list[Figure]:
    assert cpu.use_kernels(kernels)
    figures = []
    for (rows, columns), counts in SHAPES:
        for tokens in counts:
            x = np.random.default_rng(2).standard_normal((tokens, columns), dtype=np.float32)
            peer = theirs(openblas, rows, columns, x)
            work = rows * columns * tokens
            turns = max(1, ROUND_MULTIPLICATIONS // work)
            for contender in CONTENDERS:
                if not contender.takes(columns, tokens):
                    continue
                mine = ours(rows, columns, contender, x)
                pairs = [(timed(mine, n * turns, turns), timed(peer, n * turns, turns)) for n in range(ROUNDS)]
                ours_s = statistics.median(pair[0] for pair in pairs)
                figures.append(
                    Figure(
                        kernels=kernels,
                        rows=rows,
                        columns=columns,
                        tokens=tokens,
                        contender=contender.name,
                        ratio=statistics.median(peer_s / own_s for own_s, peer_s in pairs),
                        ours_s=ours_s,
                        memory_share=rows * columns * contender.weight_bytes / ours_s / most.bytes_per_s,
                        arithmetic_share=work / ours_s / most.multiplications_per_s,
                    )
                )
    return figures


def table(figures: list[Figure]) -> str:
    """Render the figures of one set of kernels, a line for each contender."""
    cells: dict[str, dict[str, str]] = {}
    for figure in figures:
        share = max(figure.memory_share, figure.arithmetic_share)
        line = cells.setdefault(figure.contender, {})
        line[f"{figure.rows}×{figure.columns}, {figure.tokens}"] = f"{figure.ratio:.2f} ({share:.0%})"
    columns = list(dict.fromkeys(column for line in cells.values() for column in line))
    lines = ["| weights, group, arithmetic | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for contender in CONTENDERS:
        line = cells[contender.name]
        lines += ["| " + " | ".join([contender.name, *(line.get(column, "–") for column in columns)]) + " |"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.json", help="the figures are written there, too")
    file = parser.parse_args().file
    openblas = OpenBlas()
    most = limits(openblas)
    sets = [name for name in cpu.kernel_sets() if name not in ("baseline", "avx512")]
    figures = [figure for name in sets for figure in measure(name, openblas, most)]
    print(machine())
    print(
        f"reads {most.bytes_per_s / 1e9:.1f} GB/s, multiplies {most.multiplications_per_s / 1e9:.1f} G/s, one thread\n"
    )
    for name in sets:
        print(f"Kernels {name}, rows × columns of weights, tokens:\n")
        print(table([figure for figure in figures if figure.kernels == name]), "\n")
    if file is not None:
        report = {"machine": machine(), "limits": asdict(most), "figures": [asdict(figure) for figure in figures]}
        file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
