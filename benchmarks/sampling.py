"""Sampling one step: 32 rows by mlx against mlx-lm's way, and one row natively against by mlx.

Ours samples all rows in one call, mlx-lm row by row where settings differ.

The peer does the part of a step of mlx-lm's ``BatchGenerator`` after the model: the processors of each row,
log-probabilities of all rows, then the sampler, once if all rows share it. Its penalties look at the last 20 tokens,
ours at the whole text; its rows have no seeds.

    python -m benchmarks.sampling
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from mlx_sidecar.engine.execution.sampler import NativelySampled, Sampled, Sampler
from mlx_sidecar.link.messages import Sampling

from .measure import Row, interleaved, seconds, table

ROWS = 32
ROUNDS = 9
VOCABULARIES = [8192, 151936]
PROMPT = list(range(100, 356))


def run() -> list[Row]:
    rows = [_row(name, setting, vocabulary) for vocabulary in VOCABULARIES for name, setting in SETTINGS.items()]
    return rows + [_native_row(name, vocabulary) for vocabulary in NATIVE_VOCABULARIES for name in NATIVE_SETTINGS]


def _different(row: int) -> Sampling:
    """A quarter each without a filter, with top-p, with top-k and top-p, with min-p; a third with penalties."""
    return Sampling(
        temperature=0.5 + row / ROWS,
        top_p=(1.0, 0.9, 0.95, 1.0)[row % 4],
        top_k=20 + row if row % 4 == 2 else 0,
        min_p=0.05 if row % 4 == 3 else 0.0,
        repetition_penalty=1.1 if row % 3 == 0 else 1.0,
        presence_penalty=0.3 if row % 6 == 0 else 0.0,
        seed=row,
    )


SETTINGS: dict[str, Callable[[int], Sampling]] = {
    "all greedy": lambda _: Sampling(),
    "all at one temperature": lambda _: Sampling(temperature=0.8),
    "32 different settings": _different,
}

NATIVE_VOCABULARIES = [49152, 151936]
NATIVE_SETTINGS: dict[str, Sampling] = {
    "greedy": Sampling(),
    "temperature 1": Sampling(temperature=1.0),
    "top-p 0.9": Sampling(temperature=1.0, top_p=0.9),
    "top-k 40": Sampling(temperature=1.0, top_k=40),
    "top-k 40, top-p 0.9": Sampling(temperature=1.0, top_k=40, top_p=0.9),
    "min-p 0.05": Sampling(temperature=1.0, min_p=0.05),
    "greedy, 5 logprobs": Sampling(logprobs=5),
    "repetition penalty 1.1": Sampling(repetition_penalty=1.1),
}


def _row(name: str, setting: Callable[[int], Sampling], vocabulary: int) -> Row:
    logits = mx.random.normal((ROWS, vocabulary), scale=3.0, key=mx.random.key(1))
    settings = [setting(row) for row in range(ROWS)]
    ours, peer = _ours(settings, logits), _peer(settings, logits)
    for work in (ours, peer, ours, peer):  # first touches
        work()
    mine, theirs, ratio = interleaved(lambda: seconds(ours), lambda: seconds(peer), ROUNDS)
    figure = f"{1 / ratio:.1f}× as fast ({mine * 1e3:.1f} against {theirs * 1e3:.1f} ms)"
    return Row(f"{ROWS} rows, {name}, vocabulary {vocabulary}", figure)


def _ours(settings: list[Sampling], logits: mx.array) -> Callable[[], None]:
    sampler, rows = Sampler(logits.shape[-1]), list(range(ROWS))
    for row in rows:
        sampler.open(row, settings[row], PROMPT, [])
    position = len(PROMPT)

    def step() -> None:
        nonlocal position
        mx.eval(sampler.sample(rows, [position] * ROWS, logits).tokens)
        position += 1

    return step


def _peer(settings: list[Sampling], logits: mx.array) -> Callable[[], None]:
    samplers = [
        make_sampler(setting.temperature, setting.top_p, setting.min_p, top_k=setting.top_k) for setting in settings
    ]
    shared = all(setting == settings[0] for setting in settings)
    processors = [
        make_logits_processors(
            repetition_penalty=setting.repetition_penalty if setting.repetition_penalty != 1 else None,
            presence_penalty=setting.presence_penalty,
        )
        for setting in settings
    ]
    context = mx.array(PROMPT)

    def step() -> None:
        changed = logits
        if any(processors):
            parts = [logits[row : row + 1] for row in range(ROWS)]
            for row, own in enumerate(processors):
                for processor in own:
                    parts[row] = processor(context, parts[row])
            changed = mx.concatenate(parts)
        logprobs = changed - mx.logsumexp(changed, axis=-1, keepdims=True)
        if shared:
            tokens = samplers[0](logprobs)
        else:
            tokens = mx.concatenate([sampler(logprobs[row : row + 1]) for row, sampler in enumerate(samplers)])
        mx.eval(tokens, list(logprobs))

    return step


def _native_row(name: str, vocabulary: int) -> Row:
    """One row of one step, up to the token in Python; alternately, at other positions and so with other noise."""
    logits = np.random.default_rng(1).normal(0, 3, (1, vocabulary)).astype(np.float32)
    on_device, position = mx.array(logits), 0
    lazy, native = Sampler(vocabulary), Sampler(vocabulary)
    for sampler in (lazy, native):
        sampler.open(0, NATIVE_SETTINGS[name], PROMPT, [])

    def by_mlx() -> None:
        sampled = lazy.sample([0], [position], on_device)
        mx.eval(*sampled.arrays)
        _read(sampled)

    def natively() -> None:
        nonlocal position
        position += 1
        _read(native.sample([0], [position], logits))

    for work in (natively, by_mlx, natively, by_mlx):
        work()
    mine, theirs, ratio = interleaved(lambda: seconds(natively), lambda: seconds(by_mlx), 5 * ROUNDS)
    figure = f"{1 / ratio:.0f}× as fast ({mine * 1e3:.2f} against {theirs * 1e3:.2f} ms)"
    asked = "≥ 5× as fast" if "penalty" not in name else ""  # by mlx here too
    return Row(f"A row natively against by mlx, {name}, vocabulary {vocabulary}", figure, asked)


def _read(sampled: Sampled | NativelySampled) -> object:
    return sampled.tokens.tolist(), sampled.unsound(), sampled.read()


if __name__ == "__main__":
    print(table(run()))
