"""The loop of a conversation."""

from __future__ import annotations

import argparse

from ...host import Host, SidecarError
from ..model_arguments import load_params, sidecar_options
from ..sampling import sampling
from ..standard_streams import text_of
from ..terminal import answer, complain, load, note


def converse(args: argparse.Namespace) -> int:
    """Hold a conversation until the end of input; returns the exit status."""
    messages = [{"role": "system", "content": text_of(args.system)}] if args.system else []
    how = load_params(args)
    with Host(*sidecar_options(args)) as host:
        load(host, how)
        note("Ctrl-C ends an answer, Ctrl-D the conversation.")
        while (line := _ask()) is not None:
            if not line.strip():
                continue
            messages.append({"role": "user", "content": line})
            try:
                result = answer(host, {"model": how["model"], "messages": messages, **sampling(args)})
            except SidecarError as error:
                messages.pop()
                complain(str(error))
                continue
            if "error" in result:
                complain(result["error"]["message"])
            messages.append({"role": "assistant", "content": result["text"]})
    return 0


def _ask() -> str | None:
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        return None
