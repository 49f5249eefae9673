"""Writes for commands on a terminal: notes, errors, progress and plain answers. The only user of rich but ``chat``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from ..host import Host, SidecarError
from .parser import nearest
from .terminal_text import harmless, say

__all__ = ["answer", "complain", "counted", "figures", "load", "note", "notes", "say", "with_near_names"]

notes = Console(stderr=True, highlight=False, emoji=False, markup=False)
# A line stays one for programs that read it; a terminal gets it broken between words.
notes.soft_wrap = not notes.is_terminal


def note(text: str) -> None:
    """Write a line to stderr, dimmed where the terminal can."""
    notes.print(Text(harmless(text), style="dim"))


def counted(number: int, noun: str) -> str:
    """``number`` with its noun, which forms its plural as most do."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def complain(message: str) -> None:
    """Write ``message`` to stderr, on one line behind ``error:``."""
    line = " ".join(harmless(message).split())
    notes.print(Text.assemble(("error:", "bold red"), " ", line))


def load(host: Host, params: dict[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Load a model under a progress bar that shows the sidecar's ``progress`` notifications; returns its card.

    ``params`` are those of ``load``. Raises ``SidecarError``, with the nearest name that would have been right.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=notes, transient=True, disable=quiet or not _draws()) as bar:
        name = harmless(params["model"])
        task = bar.add_task(f"loading {name}", total=None)

        def on_progress(method: str, told: dict[str, Any]) -> None:
            if method == "progress":
                stage, total = harmless(told["stage"]), told.get("total_bytes")
                bar.update(task, description=f"{stage} {name}", completed=told["done_bytes"], total=total)
            elif before is not None:
                before(method, told)

        before, host.on_notification = host.on_notification, on_progress
        try:
            with with_near_names(host, params["model"]):
                return host.call_unless_interrupted("load", {**params, "progress": "load"})
        finally:
            host.on_notification = before


@contextmanager
def with_near_names(host: Host, name: str) -> Iterator[None]:
    """Add the nearest name of a model on this machine to the error of ``name``, where no model has that."""
    try:
        yield
    except SidecarError as error:
        # A model that has its name is there: then another is missing, such as its adapter.
        if error.data.get("kind") == "model_not_found" and name not in (known := _names(host)):
            error.args = (f"{error}{nearest(name, known)}",)
        raise


def _names(host: Host) -> list[str]:
    try:
        return [model["name"] for model in host.call("local/list")["models"]]
    except SidecarError:  # such as a hub cache that cannot be read: no reason to hide the error that is told
        return ["pocket"]


def _draws() -> bool:
    return notes.is_terminal and not notes.is_dumb_terminal


def answer(host: Host, params: dict[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Stream one answer to stdout, then write its figures to stderr; returns the result."""

    def show(delta: dict[str, Any]) -> None:
        sys.stdout.write(harmless(delta["text"]) if sys.stdout.isatty() else delta["text"])
        sys.stdout.flush()

    result = host.generate(params, show)
    sys.stdout.write("\n")
    sys.stdout.flush()
    if not quiet:
        note(figures(result))
        for warning in warnings_of(result):
            note(f"warning: {warning}")
    return result


def warnings_of(result: dict[str, Any]) -> list[str]:
    """The things that are to be told of an answer beside its figures, and are no errors."""
    told = [str(warning["message"]) for warning in result.get("warnings", ())]
    if "tool_call_error" in result:
        told.append(f"what looks like a call is none that can be run: {result['tool_call_error']}")
    return told + [f"a call was cut off: {call['text']}" for call in result.get("incomplete_tool_calls", ())]


def figures(result: dict[str, Any]) -> str:
    """The figures of an answer, as the sidecar measured them, in one line."""
    usage, timing = result["usage"], result["timing"]
    cached = f" ({usage['cached_tokens']} cached)" if usage["cached_tokens"] else ""
    words = [
        result["finish_reason"],
        f"{usage['prompt_tokens']} prompt{cached} + {usage['completion_tokens']} new tokens",
    ]
    if usage.get("reasoning_tokens"):
        words.append(f"{usage['reasoning_tokens']} of them reasoning")
    if "first_token_s" in timing:
        words.append(f"first after {timing['first_token_s']:.3f} s")
    if timing.get("decode_s") and usage["completion_tokens"] > 1:
        # The first token is prefill's; decoding made the others.
        words.append(f"{(usage['completion_tokens'] - 1) / timing['decode_s']:.0f} tokens/s")
    return " · ".join(words)
