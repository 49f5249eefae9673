"""Speculation on the real model: the speed of answers with proposals against those without, in interleaved rounds.

    python -m benchmarks.speculation [--only alone,rows,draft,exact,mlx-lm] [--rounds N]

alone   SmolLM2-135M at 4 bits, one request at a time: tasks that copy and edit, and prose, with prompt lookup
rows    32 requests of prose at once, with prompt lookup
draft   its bfloat16 directory, with the 4-bit one as its draft model
exact   how many answers have the tokens that they have without proposals: greedy and seeded, 1, 8 and 32 at once, under
        ``--numerics exact``
mlx-lm  ``mlx_lm.server`` in float32 with the 4-bit model as its draft, against itself without

A speed is that of decoding: tokens behind the first one, by the engine's own time. Ratios are medians of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mlx_sidecar_client import Sidecar
from mlx_sidecar_client.protocol.generate_result import GenerateResult

from .measure import Row, machine, table
from .serving.figures import ratio
from .serving.http_servers import MlxLmServer
from .serving.request import Request

ROOT = Path(__file__).parents[1]
FOUR_BIT, BFLOAT16 = (str(ROOT / ".venv" / "models" / name) for name in ("smollm2-4bit", "smollm2"))
LOOKUP: dict[str, Any] = {"ngram": True}
DRAFT: dict[str, Any] = {"ngram": False, "draft": FOUR_BIT}
TOKENS = 160
ROWS = 32

_CODE = (ROOT / "runtime/mlx_sidecar/engine/scheduling/fair_queue.py").read_text()
_SENTENCES = (
    "The quick brown fox jumps over the lazy dog while seven wizards quietly mix unusual potions. In the harbour, old "
    "sailors repair their nets and tell the children of storms that lasted nine days. A letter from the northern "
    "province arrived with a green seal, and nobody dared to open it before sunset."
)


class Task(NamedTuple):
    name: str
    asks: str
    copies: bool


TASKS = (
    Task("edit code", f"Repeat this code, with the class renamed to Turns:\n```python\n{_CODE}\n```", True),
    Task("copy sentences", f"Copy these sentences word for word:\n{_SENTENCES}", True),
    Task("story", "Write a story about a lighthouse keeper and his daughter.", False),
    Task("explanation", "Explain how a bicycle stays upright.", False),
)
TOPICS = ("a harbour", "a bridge", "the moon", "bread", "a violin", "winter", "ants", "a railway")


class Run(NamedTuple):
    """Answers to requests that were made at once, and their speed in tokens per second."""

    answers: list[GenerateResult]
    speed: float

    @property
    def told(self) -> str:
        """The account of speculation in words."""
        usages = [answer.usage.speculation for answer in self.answers if answer.usage.speculation]
        tokens = sum(answer.usage.completion_tokens for answer in self.answers)
        passes, proposed, accepted = (
            sum(getattr(usage, name) for usage in usages) for name in ("passes", "proposed", "accepted")
        )
        return f"{tokens / max(1, passes):.2f} tokens a pass, {accepted} of {proposed} accepted"


async def ask(
    sidecar: Sidecar, model: str, texts: list[str], temperature: float, speculation: dict[str, Any] | None
) -> Run:
    async def one(number: int, text: str) -> GenerateResult:
        messages = [{"role": "user", "content": text}]
        return await sidecar.generate(  # a stream can be awaited for its result
            model,
            messages=messages,
            temperature=temperature,
            seed=number,
            max_tokens=TOKENS,
            speculation=False if speculation is None else speculation,
        )

    answers = await asyncio.gather(*(one(number, text) for number, text in enumerate(texts)))
    speeds = [(answer.usage.completion_tokens - 1) / (answer.timing.decode_s or 1.0) for answer in answers]
    return Run(answers, sum(speeds))


async def compared(
    name: str, rounds: int, off: Callable[[], Coroutine[Any, Any, Run]], on: Callable[[], Coroutine[Any, Any, Run]]
) -> tuple[str, str]:
    """Return what was compared, and the speed with proposals against that without."""
    with_ = await on()  # warms prompts and prices
    speeds: list[tuple[float, float]] = []
    same = 0
    for _ in range(rounds):
        without, with_ = await off(), await on()
        same += [a.tokens for a in without.answers] == [a.tokens for a in with_.answers]
        speeds.append((with_.speed, without.speed))
    found = ratio(*zip(*speeds, strict=True))
    same_tokens = "the same tokens" if same == rounds else f"the same tokens in {same} of {rounds} rounds"
    figure = f"{found}: {found.ours:.0f} against {found.peer:.0f} tokens/s; {with_.told}; {same_tokens}"
    return name, figure


async def alone(rounds: int) -> list[Row]:
    rows: list[Row] = []
    async with serving(FOUR_BIT) as sidecar:
        for task in TASKS:
            for temperature in (0.0, 0.7):
                what, figure = await compared(
                    f"{task.name}, temperature {temperature:g}",
                    rounds,
                    lambda t=task, h=temperature: ask(sidecar, FOUR_BIT, [t.asks], h, None),  # type: ignore[misc]
                    lambda t=task, h=temperature: ask(sidecar, FOUR_BIT, [t.asks], h, LOOKUP),  # type: ignore[misc]
                )
                rows.append(Row(what, figure, "≥ 1.5×" if task.copies else "≥ 0.97×"))
    return rows


async def full(rounds: int) -> list[Row]:
    texts = [f"Write a story about {topic} and {other}." for topic in TOPICS for other in TOPICS[:4]]
    async with serving(FOUR_BIT) as sidecar:
        what, figure = await compared(
            f"{ROWS} rows of prose, temperature 0.7",
            rounds,
            lambda: ask(sidecar, FOUR_BIT, texts, 0.7, None),
            lambda: ask(sidecar, FOUR_BIT, texts, 0.7, LOOKUP),
        )
    return [Row(what, figure, "≥ 0.98×")]


async def draft(rounds: int) -> list[Row]:
    rows: list[Row] = []
    async with serving(BFLOAT16, FOUR_BIT) as sidecar:
        for temperature in (0.0, 0.7):
            what, figure = await compared(
                f"story, bfloat16 with a 4-bit draft, temperature {temperature:g}",
                rounds,
                lambda h=temperature: ask(sidecar, BFLOAT16, [TASKS[2].asks], h, None),  # type: ignore[misc]
                lambda h=temperature: ask(sidecar, BFLOAT16, [TASKS[2].asks], h, DRAFT),  # type: ignore[misc]
            )
            rows.append(Row(what, figure))
    return rows


async def exact(rounds: int) -> list[Row]:
    """Compare tokens under ``exact``: of each of the tasks and temperatures, alone and in batches, 4 seeds a round."""
    same = count = 0
    async with serving(FOUR_BIT, options=("--numerics", "exact")) as sidecar:
        for size in (1, 8, 32):
            for number in range(-(-4 * rounds // size) if size > 1 else 4 * rounds):
                for temperature in (0.0, 0.8):
                    texts = [f"{TASKS[(number + at) % 4].asks} ({number}, {at})" for at in range(size)]
                    off, on = [await ask(sidecar, FOUR_BIT, texts, temperature, how) for how in (None, LOOKUP)]
                    same += sum(a.tokens == b.tokens for a, b in zip(off.answers, on.answers, strict=True))
                    count += size
    return [Row("answers with proposals that have the tokens without, exact", f"{same} of {count}", "all")]


class WithDraft(MlxLmServer):
    name = "mlx_lm.server with a draft"

    def command(self) -> list[str]:
        return [*super().command(), "--draft-model", FOUR_BIT, "--num-draft-tokens", "3"]


async def mlx_lm(rounds: int) -> list[Row]:
    """Whole requests, the first token left out: the server tells no time of its own."""
    from .llama.chats import in_float32

    speeds: list[tuple[float, float]] = []
    model = in_float32(Path(BFLOAT16))
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(kind(model)) for kind in (MlxLmServer, WithDraft)]
        # A few tokens, because its 4-bit products take most of a second each on a CPU.
        request = Request([], TASKS[2].asks, 16, chat=True, settings={"temperature": 0})
        for number in range(rounds + 1):
            both: list[float] = []
            for contender in made:
                result = await contender.start(request).result()
                both.append((result.completion_tokens - 1) / (result.ended_s - result.deltas[0][0]))
            if number:
                speeds.append((both[1], both[0]))
    found = ratio(*zip(*speeds, strict=True))
    figure = f"{found}: {found.ours:.0f} against {found.peer:.0f} tokens/s"
    return [Row("mlx_lm.server, story, float32 with a 4-bit draft, temperature 0", figure)]


class serving:  # noqa: N801 - it is used like a function
    """A sidecar that has loaded ``models``."""

    def __init__(self, *models: str, options: tuple[str, ...] = ()) -> None:
        self._models = models
        self._sidecar = Sidecar.spawn(command=str(Path(sys.executable).with_name("mlx-sidecar")), options=options)

    async def __aenter__(self) -> Sidecar:
        sidecar = await self._sidecar.__aenter__()
        for model in self._models:
            await sidecar.load(model)
        return sidecar

    async def __aexit__(self, *error: Any) -> None:
        await self._sidecar.__aexit__(*error)


GROUPS: dict[str, Callable[[int], Coroutine[Any, Any, list[Row]]]] = {
    "alone": alone,
    "rows": full,
    "draft": draft,
    "exact": exact,
    "mlx-lm": mlx_lm,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculation", description=__doc__)
    parser.add_argument("--only", default="alone,rows,draft", help="groups, with commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    for name in options.only.split(","):
        print(f"\n{name}\n")
        print(table(asyncio.run(GROUPS[name](options.rounds))), flush=True)


if __name__ == "__main__":
    main()
