"""Tokens a second of 32 answers at once, with a form or free, of the same lengths and in interleaved rounds."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from .forms_host import FormsHost

Frame = dict[str, Any]
_ROWS = 32
_WAVES = 2  # so that places are taken again while others run
_ROUNDS = 3
_ASKED = {"all": 0.90, "half": 0.95}


async def rows(host: FormsHost, asked: list[Frame]) -> None:
    """Measure over the first of ``asked`` whose answers are whole; print ratios to the same lengths without a form."""
    held = await _whole(host, asked)
    free = [_freed(params, tokens) for params, tokens in held]
    mixes = {
        "free": free,
        "half": [held[at][0] if at % 2 else params for at, params in enumerate(free)],
        "all": [params for params, _ in held],
    }
    speeds: dict[str, list[float]] = {name: [] for name in mixes}
    same = compared = 0
    for _ in range(_ROUNDS):
        answers = {name: await _timed(host, params, speeds[name]) for name, params in mixes.items()}
        pairs = [(answers["free"][at], answers["half"][at]) for at in range(0, len(free), 2)]
        compared += len(pairs)
        same += sum(one["tokens"] == other["tokens"] for one, other in pairs)
    for name, least in _ASKED.items():
        ratios = sorted(own / free_ for own, free_ in zip(speeds[name], speeds["free"], strict=True))
        told = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name} of {_ROWS} rows with a form, tokens a second against free: {told} (asked: ≥ {least:.2f})")
    print(
        f"tokens a second, free: {median(speeds['free']):.0f}; free rows beside forms unchanged: {same} of {compared}"
    )


async def _whole(host: FormsHost, asked: list[Frame]) -> list[tuple[Frame, int]]:
    """Return the parameters that give whole answers, with their tokens; their prompts are cached from here on."""
    found: list[tuple[Frame, int]] = []
    while len(found) < _ROWS * _WAVES:
        batch, asked = asked[:_ROWS], asked[_ROWS:]
        answers = await host.together(batch, "")
        found += [
            (params, answer["usage"]["completion_tokens"])
            for params, answer in zip(batch, answers, strict=True)
            if answer["response_format"]["complete"]
        ]
    return found[: _ROWS * _WAVES]


def _freed(params: Frame, tokens: int) -> Frame:
    free = {name: value for name, value in params.items() if name != "response_format"}
    return {**free, "max_tokens": tokens, "ignore_eos": True}


async def _timed(host: FormsHost, params: list[Frame], speeds: list[float]) -> list[Frame]:
    began = time.perf_counter()
    answers = await host.together(params, "")
    took_s = time.perf_counter() - began
    speeds.append(sum(answer["usage"]["completion_tokens"] for answer in answers) / took_s)
    return answers
