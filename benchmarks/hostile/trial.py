"""The requests of a host for a model directory, and the errors that it may be answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mlx_sidecar_protocol import errors

from ..faults.host import Host, Stuck, within
from ..promises import Frame, ending
from .directory import Trial

# A text process is given so long twice, and others may be before it; all on a machine that has other work.
BOUND_S = 300.0
# Errors with which a model may be refused.
KINDS = {each.kind for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "kind")}
MAY = KINDS - {
    "internal_error",
    "parse_error",
    "invalid_request",
    "method_not_found",
    "duplicate_id",
    "duplicate_stream",
}

# A text on which backtracking patterns backtrack, with characters of one to four bytes.
_LONGEST_ERROR = 20_000  # characters
_TEXT = "Hello " + "a" * 40 + "b é \u0301👩‍👧 \ud7ff<|im_end|>\n\t0123 ▁Ġ"
_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": _TEXT},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
    {"role": "tool", "content": "2"},
    {"role": "user", "content": [{"type": "text", "text": "And?"}]},
]


@dataclass
class Told:
    """The outcome of one trial. ``broken`` has broken promises."""

    trial: Trial
    seconds: float = 0.0
    loaded: bool = False
    endings: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


async def tried(host: Host, trial: Trial, folder: Path) -> Told:
    """Send all requests for the directory, one after the other or at once, and unload it again."""
    began = time.monotonic()
    told = Told(trial)
    model = str(folder)
    asked = [_asked(host, told, method, {"model": model, **params}) for method, params in _REQUESTS]
    asked.append(_generated(host, told, model))
    if trial.number // 9 % 2:
        await asyncio.gather(*asked)
    else:
        for each in asked:
            await each
    await _asked(host, told, "unload", {"model": model, "force": True})
    told.seconds = time.monotonic() - began
    return told


_REQUESTS: Iterable[tuple[str, Frame]] = (
    ("load", {}),
    ("tokenize", {"text": _TEXT, "pieces": True}),
    ("detokenize", {"tokens": [0, 1, 2, 5, 40, 41, 300, 2047]}),
    ("render", {"messages": _CHAT, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
)


async def _asked(host: Host, told: Told, method: str, params: Frame) -> None:
    try:
        answer = await host.answer(method, params, BOUND_S)
    except Stuck as stuck:
        told.broken.append(str(stuck))
        return
    told.loaded |= method == "load" and "result" in answer
    _judge(told, method, answer)


async def _generated(host: Host, told: Told, model: str) -> None:
    prompt: Frame = {"messages": _CHAT} if told.trial.number % 2 else {"prompt": _TEXT}
    stream = {"stream": f"trial {told.trial.number}", "stop": ["zq"], "skip_special": told.trial.number % 3 > 0}
    params = {"model": model, "max_tokens": 6, **prompt, **stream}
    try:
        answer = await within("answer to generate", host.ask(params, MAY), BOUND_S)
    except Stuck as stuck:
        told.broken.append(str(stuck))
        return
    _judge(told, "generate", answer)


def _judge(told: Told, method: str, answer: Frame) -> None:
    if method == "generate":
        kind = ending(answer)
    else:
        kind = answer["error"].get("data", {}).get("kind", "none") if "error" in answer else "result"
    if method != "unload" or kind not in ("model_not_loaded", "result"):
        told.endings[kind] += 1
    if (size := len(json.dumps(answer.get("error")))) > _LONGEST_ERROR:
        told.broken.append(f"{method}: an error of {size} characters: {kind}")
    if kind not in MAY | {"result", "stop", "length"}:
        told.broken.append(f"{method}: {answer.get('error') or answer['result'].get('error') or kind}")
