"""Model directories in which one file was mutated: tokenizer.json, chat templates, configurations, headers, indices.

Each is loaded, asked for tokens, texts, renderings and an answer, and unloaded, beside an innocent stream whose text
must stay the same. Its requests must be answered with a result or a typed error. A ping every 20 ms shows whether the
front works; the time in which the front waited for a processor does not count. Mutations come from a seed:
``python -m benchmarks.hostile --seed 1 --trial N`` repeats one.
"""

from __future__ import annotations

import asyncio

from ..hostile.directory import Trial
from ..hostile.report import report
from ..hostile.siege import Siege
from .report import Report

TRIALS, QUICK_TRIALS = 1_000, 60
_FOREVER_S = 1e9


def run(seed: int, quick: bool) -> Report:
    siege = Siege()
    trials = (Trial(seed, number, slow=not quick) for number in range(QUICK_TRIALS if quick else TRIALS))
    asyncio.run(siege.run(trials, _FOREVER_S))
    return report(siege, quick=quick)
