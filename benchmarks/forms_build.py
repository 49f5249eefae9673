"""Streams beside a tokenizer for grammars that is built: the gaps of eight streams, in decode steps.

The tokenizer has the vocabulary of Qwen3, 151,669 tokens. A constrained request waits for it while eight streams of a
random model decode; nothing else happens. The engine's loop runs in this process, its front is a list of messages.

    python -m benchmarks.forms_build [--size 16M] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from mlx_sidecar.front.output.vocabulary_bytes import vocabulary_bytes
from mlx_sidecar.link.messages import Constraint, Generate, Sampling, Submit, Vocabulary
from mlx_sidecar.text.tokenizer import TextModel

from .depth import ENDLESS, MODEL, SETTLED_TOKENS, SHORT, STREAMS, Loop
from .measure import Row, machine, table
from .serving.figures import milliseconds, percentile
from .serving.models import Prompts, make

TOKENIZER = Path(__file__).parents[1] / ".venv" / "models" / "tokenizers" / "qwen3"
GRAMMAR = 'start: "yes" | "no"'


class ConstrainedLoop(Loop):
    """Takes requests whose answers have a grammar."""

    def constrain(self, tokens: list[int], vocabulary: Vocabulary) -> int:
        """Submit a prompt whose answer has a grammar over ``vocabulary``, and return the sequence's id."""
        id_ = next(self._ids)
        constraint = Constraint(GRAMMAR, [])
        self._said.put(vocabulary)
        self._said.put(Submit(id_, MODEL, tokens, Generate(Sampling(), [], 4, constraint=constraint)))
        self.turn()
        return id_


def measure(path: Path, vocabulary: Vocabulary) -> tuple[list[float], float, float]:
    """Return the gaps of a stream while a tokenizer was built, its median gap before, and how long that took; in s."""
    loop, prompts = ConstrainedLoop(path, time.monotonic), Prompts(seed=5)
    streams = [loop.submit(prompts.request(SHORT, 1).tokens, ENDLESS) for _ in range(STREAMS)]
    while any(len(loop.times.get(stream, ())) < 2 * SETTLED_TOKENS for stream in streams):
        loop.turn()
    heard = loop.times[streams[0]]
    step_s = statistics.median(b - a for a, b in pairwise(heard[-SETTLED_TOKENS:]))
    told, began = len(heard), time.monotonic()
    waits = loop.constrain(prompts.request(SHORT, 1).tokens, vocabulary)
    while waits not in loop.times:
        loop.turn()
    return [b - a for a, b in pairwise(heard[told - 1 :])], step_s, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms_build", description=__doc__)
    parser.add_argument("--size", default="16M", help="of the random model")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    of_tokens = vocabulary_bytes(TextModel.load(TOKENIZER).table())
    assert of_tokens is not None
    vocabulary = Vocabulary(MODEL, *of_tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = make(args.size, Path(folder))
        rounds = [measure(path, vocabulary) for _ in range(args.rounds)]
    steps = [gap / step_s for gaps, step_s, _ in rounds for gap in gaps]
    spread = (
        f"median {percentile(steps, 50):.1f}, p99 {percentile(steps, 99):.1f}, worst {max(steps):.1f} of {len(steps)}"
    )
    took = milliseconds(statistics.median(took_s for *_, took_s in rounds))
    found = [
        Row(f"gaps of {STREAMS} streams while a tokenizer is built, decode steps", spread, "≤ 3"),
        Row("first token of the request that waits for it", took),
    ]
    print(f"{machine()}.\n\n{table(found)}")


if __name__ == "__main__":
    main()
