"""Tries the sidecar on this machine's device, and prints a report in Markdown to paste into an issue.

    python tools/try_device.py [MODEL] [--expect metal|cuda|cpu] [--quick]

Runs ``doctor``, times the model, kills the engine in mid-answer and, unless ``--quick``, runs the short form of two
parts of the fault benchmark. Ends with status 1 if something failed or another device than the expected one was used.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_sidecar.host import Host, SidecarError, SidecarGone

ROOT = Path(__file__).resolve().parents[1]
FAULTS = {"cpu": ("kills", "signals"), "metal": ("steps", "hosts"), "cuda": ("steps", "hosts")}
"""Parts of the fault benchmark by backend: the first two ask for exact numerics, which only a Linux CPU has."""


@dataclass(frozen=True)
class Amount:
    """How much is measured: tokens of a prompt and of an answer, streams at once, rounds of which medians are told."""

    prompt: int
    answer: int
    streams: int
    rounds: int


WHOLE = Amount(prompt=512, answer=128, streams=8, rounds=3)
QUICK = Amount(prompt=64, answer=16, streams=2, rounds=1)


@dataclass(frozen=True)
class Part:
    """One section of the report."""

    title: str
    text: str
    is_sound: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = _parser().parse_args(arguments)
    sound = True
    for part in report(args.model, args.expect, args.quick):
        print(f"## {part.title}{'' if part.is_sound else ': FAILED'}\n\n{part.text}\n", flush=True)
        sound &= part.is_sound
    return 0 if sound else 1


def report(model: str, expected: str | None, quick: bool) -> Iterator[Part]:
    """The sections of the report, each when it is known."""
    yield _of_command("doctor", ["-m", "mlx_sidecar", "doctor", *([] if model == "pocket" else [model])])
    backend = ""
    # No prefix cache, because prompts are repeated and their prefill is measured.
    try:
        with Host("--cache-limit-bytes", "0") as host:
            card = host.call("load", {"model": model})
            backend = host.call("stats")["engine"]["backend"]
            yield _device(host, expected)
            yield _speed(host, card, QUICK if quick else WHOLE)
            yield _killed(host, model)
    except (SidecarError, SidecarGone) as error:
        yield Part("Speed and a killed engine", f"The sidecar said: {error}", is_sound=False)
    if not quick and backend:
        yield _of_command("Faults", ["-m", "benchmarks.faults", *FAULTS[backend], "--quick"])


def _of_command(title: str, arguments: list[str]) -> Part:
    """Run Python with ``arguments``; its output is the section."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    text = "\n".join(filter(None, [done.stdout.strip(), done.stderr.strip() if done.returncode else ""]))
    return Part(title, f"`python {' '.join(arguments)}`\n\n```\n{text}\n```", done.returncode == 0)


def _device(host: Host, expected: str | None) -> Part:
    """Tell the device that the engine computes on."""
    engine = host.call("stats")["engine"]
    told = f"{engine['backend']} on {engine['device']}: {engine['policy']}"
    if expected is None or engine["backend"] == expected:
        return Part("Device", told)
    return Part("Device", f"{told}\n\n{expected} was expected.", is_sound=False)


def _speed(host: Host, card: dict[str, Any], amount: Amount) -> Part:
    """Time prefill, decoding, and several streams at once, from the moment of asking to the answer."""
    model = card["model"]
    tokens = [(37 * n + 11) % card["vocabulary"] for n in range(amount.prompt)]
    asked = {"model": model, "ignore_eos": True}
    prompt = {**asked, "tokens": tokens, "max_tokens": 1}
    answer = {**asked, "tokens": tokens[:8], "max_tokens": amount.answer}
    _seconds(host, [answer])  # first touches
    rows = [
        (f"prefill of {amount.prompt} tokens", amount.prompt, [prompt]),
        (f"an answer of {amount.answer} tokens", amount.answer, [answer]),
        (f"{amount.streams} such answers at once", amount.streams * amount.answer, [answer] * amount.streams),
    ]
    lines = ["| what | tokens/s |", "|---|---|", f"| load ({card['forward']}) | {card['load_s']:.2f} s |"]
    for title, count, requests in rows:
        taken = statistics.median(_seconds(host, requests) for _ in range(amount.rounds))
        lines.append(f"| {title} | {count / taken:,.0f} |")
    name = Path(model).name if Path(model).is_dir() else model
    return Part("Speed", f"{name}, {card.get('dtype', '')}, medians of {amount.rounds}.\n\n" + "\n".join(lines))


def _seconds(host: Host, requests: list[dict[str, Any]]) -> float:
    began = time.perf_counter()
    host.collect([host.send("generate", request) for request in requests])
    return time.perf_counter() - began


def _killed(host: Host, model: str) -> Part:
    """Kill the engine when a stream has begun; on a CPU its answer has to be that of an undisturbed one.

    Elsewhere a tie in the last bits may fall the other way where a prompt is computed again: that is told, no failure.
    """
    asked = {"model": model, "prompt": "Once upon a time", "max_tokens": 48, "ignore_eos": True}
    undisturbed = host.call("generate", asked)["text"]
    engine = host.call("stats")["engine"]
    struck: list[int] = []

    def strike(delta: dict[str, Any]) -> None:
        if not struck:
            os.kill(engine["pid"], signal.SIGKILL)
            struck.append(delta["seq"])

    text = host.generate({**asked, "window": 1, "min_interval_ms": 5}, _acknowledging(host, strike))["text"]
    engines = host.call("stats")["engine"]["restarts"]
    is_sound = engines >= 1 and (text == undisturbed or engine["backend"] != "cpu")
    told = "the same text" if text == undisturbed else f"another text: {text!r} instead of {undisturbed!r}"
    return Part("An engine killed in mid-answer", f"{engines} engine(s) started again, {told}.", is_sound)


def _acknowledging(host: Host, then: Any) -> Any:
    """Return a listener that does ``then`` with a delta, and acknowledges it, so that the stream goes on."""

    def heard(delta: dict[str, Any]) -> None:
        then(delta)
        host.notify("stream/ack", {"stream": delta["stream"], "seq": delta["seq"]})

    return heard


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Try the sidecar on this machine's device; prints a report to paste.")
    parser.add_argument("model", nargs="?", default="pocket", help="directory or hub id of a model that is here")
    parser.add_argument("--expect", choices=["metal", "cuda", "cpu"], help="fail if the engine uses another device")
    parser.add_argument("--quick", action="store_true", help="short figures and no benchmark of faults: some seconds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
