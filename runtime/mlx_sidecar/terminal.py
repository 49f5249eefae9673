"""The commands ``chat`` and ``generate``, a host in the terminal; with ``doctor`` the only user of rich."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from .host import Host, SidecarError, SidecarGone

_notes = Console(stderr=True, highlight=False, emoji=False)
# Characters that a terminal obeys instead of showing them, but for tabs and line feeds.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def chat(model: str, system: str | None, sampling: dict[str, Any], options: list[str]) -> int:
    """Hold a conversation until the end of input; returns the exit status."""
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    try:
        with Host(*options) as host:
            load(host, model)
            _notes.print("[dim]Ctrl-C ends an answer, Ctrl-D the conversation.[/dim]")
            while (line := _ask()) is not None:
                if not line.strip():
                    continue
                messages.append({"role": "user", "content": line})
                try:
                    result = answer(host, {"model": model, "messages": messages, **sampling})
                except SidecarError as error:
                    messages.pop()
                    _complain(error)
                    continue
                messages.append({"role": "assistant", "content": result["text"]})
    except (SidecarError, SidecarGone) as error:
        _complain(error)
        return 1
    return 0


def generate(model: str, prompt: str, as_chat: bool, sampling: dict[str, Any], options: list[str]) -> int:
    """Write one answer to stdout and its figures to stderr; returns the exit status."""
    source = {"messages": [{"role": "user", "content": prompt}]} if as_chat else {"prompt": prompt}
    try:
        with Host(*options) as host:
            load(host, model)
            result = answer(host, {"model": model, **source, **sampling})
    except (SidecarError, SidecarGone) as error:
        _complain(error)
        return 1
    return 0 if result["finish_reason"] in ("stop", "length") else 1


def load(host: Host, model: str) -> dict[str, Any]:
    """Load ``model`` under a progress bar that shows the sidecar's ``progress`` notifications; returns its card."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=_notes, transient=not _notes.is_terminal) as bar:
        name = _harmless(model)
        task = bar.add_task(f"loading {name}", total=None)

        def on_progress(method: str, params: dict[str, Any]) -> None:
            if method == "progress":
                total = params.get("total_bytes")
                bar.update(task, description=f"{params['stage']} {name}", completed=params["done_bytes"], total=total)

        host.on_notification = on_progress
        try:
            card = host.call("load", {"model": model, "progress": "load"})
        finally:
            host.on_notification = None
        size = card["memory_bytes"]
        bar.update(task, description=f"loaded {name}", total=size, completed=size)
    return card


def answer(host: Host, params: dict[str, Any]) -> dict[str, Any]:
    """Stream one answer to stdout, then write its figures to stderr; returns the result."""

    def show(delta: dict[str, Any]) -> None:
        sys.stdout.write(_harmless(delta["text"]) if sys.stdout.isatty() else delta["text"])
        sys.stdout.flush()

    result = host.generate(params, show)
    sys.stdout.write("\n")
    sys.stdout.flush()
    usage, timing = result["usage"], result["timing"]
    figures = [result["finish_reason"], f"{usage['prompt_tokens']} prompt + {usage['completion_tokens']} new tokens"]
    if "first_token_s" in timing:
        figures.append(f"first after {timing['first_token_s']:.3f} s")
    if timing.get("decode_s"):
        figures.append(f"{usage['completion_tokens'] / timing['decode_s']:.0f} tokens/s")
    _notes.print(f"[dim]{' · '.join(figures)}[/dim]")
    if "error" in result:
        _complain(result["error"]["message"])
    return result


def _complain(error: object) -> None:
    """Print ``error`` in red, without markup, since it may quote a path or a model's file."""
    _notes.print(_harmless(str(error)), style="red", markup=False)


def _harmless(text: str) -> str:
    """``text`` with each character that could command a terminal replaced by U+FFFD."""
    return text.translate(_CONTROLS)


def _ask() -> str | None:
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        return None
