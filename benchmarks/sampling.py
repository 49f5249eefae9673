"""Sampling one step of 32 rows: ours, all rows in one call, against mlx-lm's way, row by row where settings differ.

The peer does the part of a step of mlx-lm's ``BatchGenerator`` after the model: the processors of each row,
log-probabilities of all rows, then the sampler, once if all rows share it. Its penalties look at the last 20 tokens,
ours at the whole text; its rows have no seeds.

    python -m benchmarks.sampling
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from mlx_sidecar.engine.execution.sampler import Sampler
from mlx_sidecar.link.messages import Sampling

from .measure import Row, interleaved, seconds, table

ROWS = 32
ROUNDS = 9
VOCABULARIES = [8192, 151936]
PROMPT = list(range(100, 356))


def run() -> list[Row]:
    return [_row(name, setting, vocabulary) for vocabulary in VOCABULARIES for name, setting in SETTINGS.items()]


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


if __name__ == "__main__":
    print(table(run()))
