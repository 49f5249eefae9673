"""Cost of parsing: tokens a second of 32 parsed streams of chats at once, against the same streams raw, in turns.

    python -m benchmarks.parsed_streams [--rounds N]

SmolLM2-135M at 4 bits under a ChatML template that knows calls and reasoning, so that every token goes through the
parser: as text in which calls are looked for, and as reasoning, which is taken in token by token. Then calls of which
each token is an argument's, on the fake engine. The processor time of the front is told as well, because it does not
depend on what else runs on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil

from mlx_sidecar.host import Host

from .measure import Row, machine, table

MODEL = Path(__file__).parents[1] / ".venv" / "models" / "smollm2-4bit"
STREAMS = 32
ASKED = 0.98
TOPICS = ("a harbour", "a bridge", "the moon", "bread", "a violin", "winter", "ants", "a railway")
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "forecast", "description": "Weather.", "parameters": PLACE}}]
TEMPLATE = """{#- <tool_call> #}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
{%- if thinking %}{{- '<think>\\n' }}{% endif %}
{#- </think> #}"""
CALL = '<tool_call>\n{"name": "forecast", "arguments": {"city": "' + "Bern and its bears, " * 150 + '"}}\n</tool_call>'

Frame = dict[str, Any]


@contextmanager
def model_that_calls() -> Iterator[str]:
    """The directory of the model, with a template of its own."""
    with TemporaryDirectory() as folder:
        for file in MODEL.iterdir():
            Path(folder, file.name).symlink_to(file)
        Path(folder, "chat_template.jinja").write_text(TEMPLATE)
        yield folder


def requests(model: str, **more: Any) -> list[Frame]:
    """As many requests as run at once, of different chats."""
    return [
        {
            "model": model,
            "messages": [{"role": "user", "content": f"Tell me more about {TOPICS[at % len(TOPICS)]} ({at})."}],
            "tools": TOOLS,
            "temperature": 0.8,
            "seed": at,
            "ignore_eos": True,
            "stream": f"s{at}",
            **more,
        }
        for at in range(STREAMS)
    ]


class Runs(NamedTuple):
    """Rounds of one way: tokens a second, and microseconds of the front's processor time for a token."""

    speeds: list[float]
    front_us: list[float]


def answers(host: Host, asked: list[Frame]) -> list[Frame]:
    """The results of ``asked``, all at once, in their order."""
    ids = [host.send("generate", params) for params in asked]
    results = host.collect(ids)
    return [results[id_] for id_ in ids]


def measure(host: Host, asked: list[Frame], runs: Runs) -> None:
    front = psutil.Process(host.pid)
    began, used = time.perf_counter(), sum(front.cpu_times()[:2])
    tokens = sum(result["usage"]["completion_tokens"] for result in answers(host, asked))
    runs.speeds.append(tokens / (time.perf_counter() - began))
    runs.front_us.append((sum(front.cpu_times()[:2]) - used) / tokens * 1e6)


def compared(host: Host, what: str, asked: Callable[..., list[Frame]], rounds: int, least: str = "") -> Row:
    """Parsed streams against raw ones, in turns, after one run of each."""
    ways = {"parsed": asked(), "raw": asked(output="raw")}
    pairs = zip(*(answers(host, params) for params in ways.values()), strict=True)
    others = sum(one["tokens"] != other["tokens"] for one, other in pairs)
    runs = {way: Runs([], []) for way in ways}
    for at in range(rounds):
        for way in sorted(ways, reverse=bool(at % 2)):
            measure(host, ways[way], runs[way])
    parsed, raw = runs["parsed"], runs["raw"]
    each = sorted(one / other for one, other in zip(parsed.speeds, raw.speeds, strict=True))
    front = f"front {median(parsed.front_us):.0f} µs a token against {median(raw.front_us):.0f}"
    told = f"{median(each):.3f} ({each[0]:.3f} to {each[-1]:.3f}) of {median(raw.speeds):.0f} tokens a second; {front}"
    return Row(what, told + (f"; {others} answers have other tokens" if others else ""), least)


def run(rounds: int, tokens: int) -> Iterator[Row]:
    with model_that_calls() as model, Host() as host:
        host.call("load", {"model": model})
        for name, thinking in (("text with tools", False), ("reasoning", True)):
            asked = partial(requests, model, template_args={"thinking": thinking}, max_tokens=tokens)
            yield compared(host, f"{STREAMS} streams of {name}", asked, rounds, f"≥ {ASKED}")
    with Host("--engine", "fake") as host:
        asked = partial(requests, f"fake?text={CALL}&context=100000", max_tokens=len(CALL), ignore_eos=False)
        yield compared(host, f"{STREAMS} calls, fake engine", asked, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Parsed streams against raw ones.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=200, help="of each stream")
    given = parser.parse_args()
    print(machine())
    for row in run(given.rounds, given.tokens):
        print(f"\n{table([row])}", flush=True)


if __name__ == "__main__":
    main()
