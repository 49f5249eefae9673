"""``make demo`` spawns the sidecar, loads the embedded model, and streams one chat answer with its figures."""

from __future__ import annotations

import sys

from mlx_sidecar.cli.terminal import answer, load
from mlx_sidecar.host import Host

QUESTIONS = ("What is mlx-sidecar?", "How do I cancel a request?")


def main() -> int:
    with Host() as host:
        load(host, {"model": "pocket"})
        messages: list[dict[str, str]] = []
        finished = True
        for question in QUESTIONS:
            print(f"\n> {question}")
            messages.append({"role": "user", "content": question})
            result = answer(host, {"model": "pocket", "messages": messages})
            messages.append({"role": "assistant", "content": result["text"]})
            finished = finished and result["finish_reason"] == "stop"
    print("\nTalk to it yourself: .venv/bin/mlx-sidecar chat")
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
