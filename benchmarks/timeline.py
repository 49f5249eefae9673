"""Draws a trace of ``mlx-sidecar serve --trace``: the operations of the device, and the phases of each request.

python -m benchmarks.timeline                  run a short load and write docs/plots/timeline.png
python -m benchmarks.timeline TRACE PICTURE    draw a trace that is there
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlx_sidecar.host import Host

PICTURE = Path(__file__).parents[1] / "docs" / "plots" / "timeline.png"
COLOURS = {"queue": "#c9ccd1", "prefill": "#e8a13a", "decode": "#4a7fb5", "load": "#8f8f8f"}
Event = dict[str, Any]


def read(path: Path) -> list[Event]:
    """Return the events of a trace, whose array is never closed."""
    return [json.loads(line.rstrip(",\n")) for line in path.read_text().splitlines() if line.startswith("{")]


def record(path: Path) -> None:
    """Run a load with everything: six streams, a long prompt, a short one beside it, an urgent one, a cancel."""
    with Host("--trace", str(path)) as host:
        host.call("load", {"model": "pocket"})
        for number in range(6):
            host.send("generate", {**_tokens(24 + number, 90), "priority": "low" if number == 5 else "normal"})
        host.call("stats")
        host.send("generate", _tokens(900, 30))
        cancelled = host.send("generate", _tokens(950, 30))
        last = [
            host.send("generate", {**_tokens(20, 25), "priority": "critical"}),
            host.send("generate", {**_tokens(16, 40), "deadline_s": 0.08}),
        ]
        host.collect(last)
        host.notify("$/cancelRequest", {"id": cancelled})
        host.call("shutdown")


def _tokens(prompt: int, limit: int) -> Event:
    tokens = [(37 * n + 11 * prompt) % 2000 for n in range(prompt)]
    return {"model": "pocket", "tokens": tokens, "max_tokens": limit, "ignore_eos": True}


def draw(events: list[Event], picture: Path) -> None:
    """Rows from the top: the device, then the requests in the order of their arrival. Time in milliseconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    operations = [event for event in events if event.get("cat") == "device" and event["name"] != "load"]
    phases = _phases(events)
    start = min(began for _, _, began, _ in phases)
    requests = sorted({request for request, *_ in phases})
    figure, axes = plt.subplots(figsize=(11, 1.2 + 0.3 * len(requests)))
    for event in operations:
        left, width = (event["ts"] - start) / 1000, event["dur"] / 1000
        axes.barh(0, width, left=left, height=0.8, color=COLOURS[event["name"]], lw=0.3, edgecolor="white")
    for request, name, began, ended in phases:
        row = 1.4 + requests.index(request)
        axes.barh(row, (ended - began) / 1000, left=(began - start) / 1000, height=0.7, color=COLOURS[name])
    axes.set_yticks([0, *(1.4 + n for n in range(len(requests)))], ["device", *(f"request {n}" for n in requests)])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.legend(
        handles=[Patch(color=COLOURS[name], label=name) for name in ("queue", "prefill", "decode")],
        loc="upper center",
        bbox_to_anchor=(0.5, 1.12),
        ncols=3,
        frameon=False,
    )
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110, bbox_inches="tight")


def _phases(events: list[Event]) -> list[tuple[int, str, int, int]]:
    """(request, phase, began, ended), in microseconds."""
    begun: dict[tuple[int, str], int] = {}
    phases = []
    for event in events:
        if event.get("cat") == "request":
            key = (event["id"], event["name"])
            if event["ph"] == "b":
                begun[key] = event["ts"]
            else:
                phases.append((*key, begun.pop(key), event["ts"]))
    return phases


def main(arguments: list[str]) -> None:
    if arguments:
        trace, picture = map(Path, arguments)
        draw(read(trace), picture)
        return
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        record(trace)
        draw(read(trace), PICTURE)


if __name__ == "__main__":
    main(sys.argv[1:])
