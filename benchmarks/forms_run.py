"""Forms of answers on the real model: whether every answer that is said to be whole is valid, and what forms cost.

    python -m benchmarks.forms_run [--only runs,same,passes,rows] [--runs N] [--data FOLDER]

Answers of SmolLM2-135M at 4 bits are held to the schemas of BFCL's functions (``benchmarks.forms``).

runs    N answers (2,000) at temperatures 0 and 0.8, 1, 8 and 32 at once, among which requests are preempted and
        cancelled and the engine is killed. Those that are ``complete`` are checked by jsonschema
same    a sample of them alone, in a batch and over a kill, under the strictest numerics that the device has
passes  passes of the model for each token, with fixed and with flexible separators, without other proposals
rows    tokens a second of 32 at once, all of them or every second one with a form, against as many free ones of the
        same lengths, in interleaved rounds
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .faults.numerics import numerics
from .forms import SETS, as_json_schema, bfcl
from .forms_checks import Tally, compiles, print_tally
from .forms_host import FormsHost
from .forms_rows import rows
from .measure import machine

MODEL = str(Path(__file__).parents[1] / ".venv" / "models" / "smollm2-4bit")
TEMPERATURES = (0.0, 0.8)
BATCHES = (32, 8, 1)
TOKENS = 200
SAMPLE = 24
LEAST = 400  # calls, for the parts that need whole answers
SEPARATORS = 24  # answers for each kind of them


class Call(NamedTuple):
    """A question, and the schema of the arguments of a function that may answer it."""

    prompt: str
    schema: dict[str, Any]

    def params(self, **more: Any) -> dict[str, Any]:
        """Return the parameters of ``generate``."""
        form = {"type": "json_schema", "schema": self.schema, **more.pop("form", {})}
        message = {"role": "user", "content": self.prompt}
        asked = {"model": MODEL, "messages": [message], "response_format": form, "max_tokens": TOKENS, "seed": 1}
        return {**asked, **more}


def calls(data: Path) -> list[Call]:
    """Return the calls of BFCL whose schemas compile, in an order of no meaning."""
    found: list[Call] = []
    for name in SETS:
        for line in (data / f"BFCL_v4_{name}.json").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            [question] = [turn["content"] for turn in entry["question"][0] if turn["role"] == "user"][:1] or [""]
            for function in entry["function"]:
                asks = f"Call {function['name']}: {function['description'][:200]}\n{question[:400]}\nArguments as JSON:"
                found.append(Call(asks, as_json_schema(function["parameters"])))
    random.Random(1).shuffle(found)
    return found


def strictly(schema: Any) -> Any:
    """Return the schema with every member required and no others allowed."""
    if isinstance(schema, list):
        return [strictly(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: strictly(part) for name, part in schema.items()}
    if isinstance(properties := changed.get("properties"), dict):
        changed |= {"required": list(properties), "additionalProperties": False}
    return changed


@asynccontextmanager
async def host(*options: str) -> AsyncIterator[FormsHost]:
    """A sidecar that has loaded the model."""
    async with FormsHost(*options) as running:
        await running.call("load", {"model": MODEL})
        yield running


async def runs(asked: list[Call], count: int) -> None:
    """Ask for ``count`` answers, in batches of every size, and disturb every second one in turns."""
    tally = Tally()
    left = list(asked)
    async with host() as running:
        await running.call("generate", left[0].params(max_tokens=4))
        for temperature in TEMPERATURES:
            for size in BATCHES:
                wanted = count // (len(TEMPERATURES) * len(BATCHES))
                for number in range(-(-wanted // size)):
                    batch = [left.pop() for _ in range(min(size, wanted - number * size))]
                    disturbance = disturbance_of(number, size)
                    await one_batch(running, batch, temperature, disturbance, tally)
                print(f"T {temperature}, {size} at once: {tally.summary()}", flush=True)
    print_tally(tally)


def disturbance_of(number: int, size: int) -> str:
    """Return what happens to a batch. An engine takes a second to come, so one is killed in each hundredth of many."""
    if number % max(2, 96 // size) == 1:
        return "kill"
    return {0: "", 1: "cancel", 2: "", 3: "preempt"}[number % 4]


async def one_batch(running: FormsHost, batch: list[Call], temperature: float, disturbance: str, tally: Tally) -> None:
    params = [call.params(temperature=temperature, priority="low", seed=at) for at, call in enumerate(batch)]
    answers = await running.together(params, disturbance)
    tally.add([call.schema for call in batch], answers, disturbance)


async def same(asked: list[Call]) -> None:
    """Compare a sample's tokens alone, in a batch, and over a kill."""
    params = [call.params(temperature=TEMPERATURES[at % 2], seed=at) for at, call in enumerate(asked[-SAMPLE:])]
    async with host(*numerics()) as running:
        alone = [(await running.together([own], ""))[0] for own in params]
        batch = await running.together(params, "")
        killed = await running.together(params, "kill")
    print(*numerics())
    for name, answers in (("in a batch", batch), ("over a kill", killed)):
        equal = sum(one["tokens"] == other["tokens"] for one, other in zip(alone, answers, strict=True))
        print(f"same tokens {name} as alone: {equal} of {len(params)}")


async def passes(asked: list[Call]) -> None:
    """Print how many passes a token takes, with the schemas as OpenAI's ``strict`` wants them and as they are."""
    async with host() as running:
        for whitespace, strict, most in (("fixed", True, 0.60), ("flexible", True, 0.86), ("fixed", False, 0.60)):
            tokens = passed = 0
            for call in islice((call for call in asked if compiles(strictly(call.schema))), SEPARATORS):
                own = call._replace(schema=strictly(call.schema)) if strict else call
                params = own.params(form={"whitespace": whitespace}, speculation={"ngram": False})
                [answer] = await running.together([params], "")
                if answer["response_format"]["complete"]:
                    tokens += answer["usage"]["completion_tokens"]
                    passed += answer["usage"]["speculation"]["passes"]
            what = f"{whitespace}{', strict' if strict else ''}"
            print(f"passes for each token, {what}: {passed / tokens:.2f} of {tokens} tokens (asked: ≤ {most:.2f})")


async def forms_rows(asked: list[Call]) -> None:
    async with host() as running:
        await rows(running, [call.params() for call in asked])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="runs,same,passes,rows", help="parts, joined by commas")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--data", type=Path, help="the folder with BFCL_v4_*.json")
    options = parser.parse_args()
    print(machine())
    with bfcl(options.data) as data:
        asked = list(islice((call for call in calls(data) if compiles(call.schema)), max(options.runs, LEAST)))
    parts: dict[str, Coroutine[Any, Any, None]] = {
        "runs": runs(asked, options.runs),
        "same": same(asked),
        "passes": passes(asked),
        "rows": forms_rows(asked),
    }
    for name, part in parts.items():
        if re.search(rf"\b{name}\b", options.only):
            asyncio.run(part)
        else:
            part.close()


if __name__ == "__main__":
    main()
