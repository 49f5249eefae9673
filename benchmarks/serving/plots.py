"""Pictures, by matplotlib: lines carry their names, axes their units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

COLOURS = {
    "ours over pipes": "#c2410c",
    "BatchGenerator in-process": "#1d4ed8",
    "mlx_lm.server": "#15803d",
    "llama.cpp": "#6b21a8",
}
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "mlx-sidecar",
}


@contextmanager
def figure(path: Path, columns: int = 1, width_in: float = 7.0, height_in: float = 3.8) -> Iterator[Any]:
    """Yield axes, one or a row with one vertical axis, and write the picture to ``path`` at the end."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    with pyplot.rc_context(_STYLE):
        drawing, axes = pyplot.subplots(
            1, columns, figsize=(width_in, height_in), sharex=True, sharey=True, layout="constrained"
        )
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        # No date and no version, so that the same figures give the same file.
        drawing.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
        pyplot.close(drawing)


def throughput(curves: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Tokens per second against streams: contender → streams → tokens/s."""
    with figure(path) as axes:
        axes.set_xscale("log", base=2)
        ends = apart({name: list(curve.values())[-1] for name, curve in curves.items()})
        for name, curve in curves.items():
            axes.plot(list(curve), list(curve.values()), color=COLOURS[name], marker="o", markersize=4)
            axes.annotate(
                name, (max(curve), ends[name]), (8, 0), textcoords="offset points", color=COLOURS[name], va="center"
            )
        streams = sorted({streams for curve in curves.values() for streams in curve})
        axes.set_xticks(streams, [str(number) for number in streams])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("streams")
        axes.set_ylabel("tokens/s, all streams together")
        # Room for the names at the lines' ends.
        axes.set_xlim(right=max(streams) * 3.2)


def apart(ends: Mapping[str, float]) -> dict[str, float]:
    """Return heights for labels at ``ends``, in the same order and at least a line of text apart."""
    least = 0.07 * max(ends.values())
    placed: dict[str, float] = {}
    height = -math.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        height = placed[name] = max(end, height + least)
    return placed


def first_token_cdf(panels: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Panel → contender → seconds to the first token, infinite where none came."""
    ticker: Any = import_module("matplotlib.ticker")
    with figure(path, columns=len(panels), width_in=9.5) as row:
        for axes, (title, contenders) in zip(row, panels.items(), strict=True):
            for name, values in contenders.items():
                came = sorted(value for value in values if math.isfinite(value))
                shares = [100 * (n + 1) / len(values) for n in range(len(came))]
                axes.step(
                    [*came[:1], *came], [0, *shares] if came else [], where="post", color=COLOURS[name], label=name
                )
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_title(title.replace(" (", "\n("), fontsize=9)
            axes.set_xlabel("first token within, s")
            axes.set_ylim(0, 101)
        row[0].set_ylabel("% of requests")
        row[0].figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def gaps_over_time(traces: Mapping[str, Sequence[tuple[float, float]]], path: Path) -> None:
    """Contender → (seconds since the long prompt came, gap in decode steps)."""
    with figure(path) as axes:
        for name, trace in traces.items():
            if trace:
                axes.plot(*zip(*trace, strict=True), ".", markersize=3, alpha=0.6, color=COLOURS[name], label=name)
        axes.axhline(3, color="#525252", linewidth=1, linestyle="--")
        axes.annotate("asked: p99\nbelow this", (1, 3), (4, 0), ("axes fraction", "data"), "offset points", va="center")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("s since the long prompt was sent")
        axes.set_ylabel("gap between two deltas, decode steps")
        axes.figure.legend(markerscale=3, loc="outside upper center", ncols=2)
