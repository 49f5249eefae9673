"""Embeddings through a sidecar: a batch against one by one and against padding, beside a peer, and beside streams;
those of a decoder by native code against the flat forward, which computes in float32.

The model is all-MiniLM-L6-v2 (tools/real_embedder.py). Rounds are interleaved, and ratios are the medians of those of
each round. "Padded" is a request whose texts are all as long as its longest, which is what a padded batch computes.
The peer is fastembed or sentence-transformers, whichever is installed; it gets one thread, as the sidecar has.

    python -m benchmarks.embeddings [--rounds 5] [--streams MODEL] [--decoder MODEL] [--only decoder]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from operator import mul
from pathlib import Path

import anyio

from mlx_sidecar_client import Sidecar

from .measure import Row, machine, table

ROOT = Path(__file__).parents[1]
MODEL = ROOT / ".venv" / "models" / "minilm"
STREAMING = ROOT / ".venv" / "models" / "smollm2"
DECODER = ROOT / ".venv" / "models" / "smollm2-4bit"
COMMAND = [sys.executable, "-m", "mlx_sidecar"]
SHORT, MIXED = 32, 24
# Each is a token of its own.
WORDS = ("the", "river", "stone", "and", "light", "of", "small", "paper", "opens", "when", "wind", "turns", "to", "two")
STREAMS = 8
SETTLED = 24  # tokens of each stream before anything is measured
AFTER = 8  # tokens of each stream behind the last vector

Work = Callable[[], Awaitable[object]]


def texts_of(counts: Sequence[int]) -> list[str]:
    """Texts of so many words."""
    source = random.Random(1)
    return [" ".join(source.choices(WORDS, k=count)) for count in counts]


def mixed_lengths() -> list[int]:
    return [4 + (176 * number) // (MIXED - 1) for number in range(MIXED)]


async def compared(ours: Work, other: Work, rounds: int) -> tuple[float, float, float]:
    """The median seconds of both, and the median of other / ours by round."""
    await ours()
    await other()
    pairs = [(await seconds(ours), await seconds(other)) for _ in range(rounds)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


async def seconds(work: Work) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def rows(sidecar: Sidecar, rounds: int) -> list[Row]:
    model = str(MODEL)
    short = texts_of([6] * SHORT)
    lengths = mixed_lengths()
    mixed = [(await sidecar.tokenize(model, text)).tokens for text in texts_of(lengths)]
    longest = max(map(len, mixed))
    padded = [tokens + [1012] * (longest - len(tokens)) for tokens in mixed]

    async def one_by_one() -> None:
        for text in short:
            await sidecar.embed(model, [text], encoding="base64")

    async def together(texts: Sequence[str | Sequence[int]]) -> None:
        await sidecar.embed(model, texts, encoding="base64")

    alone = await compared(lambda: together(short), one_by_one, rounds)
    wide = await compared(lambda: together(mixed), lambda: together(padded), rounds)
    tokens = sum(map(len, mixed))
    found = [
        Row(f"{SHORT} short texts in a request, against one by one (s)", _figure(*alone), "≥ 10×"),
        Row(
            f"{MIXED} texts of {min(lengths)} to {max(lengths)} words ({tokens} tokens), against padded to the longest"
            f" ({len(padded) * longest} tokens) (s)",
            _figure(*wide),
            "≥ 1.8×",
        ),
    ]
    for name, peer in peers().items():
        for what, texts in (("short", short), ("mixed", texts_of(lengths))):
            measured = await compared(partial(together, texts), partial(peer, texts), rounds)
            found.append(Row(f"{len(texts)} {what} texts, against {name} (s)", _figure(*measured)))
    if not peers():
        found.append(Row("against fastembed or sentence-transformers", "neither is installed"))
    return found


def _figure(ours: float, other: float, ratio: float) -> str:
    return f"{ratio:.2f}×: {ours:.3f} against {other:.3f}"


def peers() -> dict[str, Callable[[Sequence[str]], Awaitable[object]]]:
    """The installed libraries that embed with the same model."""
    found: dict[str, Callable[[Sequence[str]], Awaitable[object]]] = {}
    try:
        from fastembed import TextEmbedding  # type: ignore[import-not-found]
    except ImportError:
        pass
    else:
        fast = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", threads=1)
        found["fastembed"] = lambda texts: anyio.to_thread.run_sync(lambda: list(fast.embed(list(texts))))
    try:
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]
    except ImportError:
        pass
    else:
        import torch  # type: ignore[import-not-found]

        torch.set_num_threads(1)
        slow = SentenceTransformer(str(MODEL), device="cpu")
        found["sentence-transformers"] = lambda texts: anyio.to_thread.run_sync(lambda: slow.encode(list(texts)))
    return found


async def beside_streams(sidecar: Sidecar, generating: str) -> list[Row]:
    """The longest gaps of streams while texts are embedded, in decode steps: their median gap before."""
    times: list[list[float]] = [[] for _ in range(STREAMS)]
    embedding, done = anyio.Event(), anyio.Event()
    span: list[float] = []

    async def stream(number: int) -> None:
        tokens_after = 0
        asked = sidecar.generate(
            generating, prompt="Once", max_tokens=2000, ignore_eos=True, seed=number, temperature=1.0
        )
        async for delta in asked:
            times[number] += [time.perf_counter()] * bool(delta.tokens)
            if all(len(own) >= SETTLED for own in times):
                embedding.set()
            tokens_after += done.is_set()
            if tokens_after >= AFTER:
                return

    async with anyio.create_task_group() as tasks:
        for number in range(STREAMS):
            tasks.start_soon(stream, number)
        await embedding.wait()
        span.append(time.perf_counter())
        await sidecar.embed(str(MODEL), texts_of([20] * SHORT), encoding="base64")
        span.append(time.perf_counter())
        done.set()
    before = [b - a for own in times for a, b in pairwise(own) if b < span[0]]
    step_s = statistics.median(before)
    meanwhile = sorted(b - a for own in times for a, b in pairwise(own) if span[0] < b and a < span[1])
    if not meanwhile:
        return [Row("streams beside embeddings", "the vectors came between two tokens")]
    figure = f"median {statistics.median(meanwhile) / step_s:.1f}, longest {meanwhile[-1] / step_s:.1f}"
    return [
        Row(
            f"{SHORT} texts of 20 words beside {STREAMS} streams: gaps of the streams in decode steps of"
            f" {1000 * step_s:.0f} ms",
            figure,
            "≤ 3",
        ),
        Row("the same: the request for vectors (s)", f"{span[1] - span[0]:.2f}"),
    ]


async def decoder_rows(model: str, rounds: int) -> list[Row]:
    """The texts of a decoder by native code, and by the flat forward of another sidecar."""
    found: list[Row] = []
    async with (
        Sidecar.spawn(command=COMMAND) as natively,
        Sidecar.spawn(command=COMMAND, options=["--native", "off"]) as flat,
    ):
        for what, texts in (("short", texts_of([6] * SHORT)), ("mixed", texts_of(mixed_lengths()))):
            ours, other = (partial(sidecar.embed_all, model, texts, pooling="mean") for sidecar in (natively, flat))
            cosines = [sum(map(mul, *pair)) for pair in zip(await ours(), await other(), strict=True)]
            measured = await compared(ours, other, rounds)
            found += [
                Row(
                    f"{len(texts)} {what} texts by {Path(model).name}, against the flat forward (s)", _figure(*measured)
                ),
                Row(
                    "the same: least cosine of a vector with the flat forward's, below 1 by", f"{1 - min(cosines):.1e}"
                ),
            ]
    return found


async def run(rounds: int, generating: str, decoder: str, *, others: bool) -> None:
    found: list[Row] = []
    if others:
        async with Sidecar.spawn(command=COMMAND) as sidecar:
            await sidecar.load(str(MODEL))
            found = await rows(sidecar, rounds)
            await sidecar.load(generating)
            found += await beside_streams(sidecar, generating)
    found += await decoder_rows(decoder, rounds)
    print(machine(), end="\n\n")
    print(table(found))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure embeddings.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", default=str(STREAMING), metavar="MODEL", help="the model that streams beside")
    parser.add_argument("--decoder", default=str(DECODER), metavar="MODEL", help="the decoder that embeds")
    parser.add_argument("--only", choices=["decoder"], help="leave out all else")
    given = parser.parse_args()
    others = given.only is None
    if others and not (MODEL / "config.json").is_file():
        sys.exit("there is no all-MiniLM-L6-v2: tools/real_embedder.py fetches it")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    anyio.run(partial(run, given.rounds, given.streams, given.decoder, others=others))


if __name__ == "__main__":
    main()
