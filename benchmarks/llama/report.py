"""Tables of what was asked and measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..measure import Row, table
from .groups import BEFORE, FAST, PIPES, Asked, Group
from .peers import FOUR_BIT
from .samples import Key, Samples


def section(name: str, group: Group, samples: Samples) -> str:
    """Return a group in Markdown: ratios, then speeds, then who could not be measured."""
    parts = [f"## {name}", group.about]
    rows = [*(_row(name, asked, samples) for asked in _known(group)), *_more(name, samples)]
    parts += [table(rows)] if rows else []
    parts += [_speeds(name, samples)]
    parts += [f"Not measured: {samples.absent[each.name]}" for each in group.contenders if each.name in samples.absent]
    return "\n\n".join(parts)


def _known(group: Group) -> Iterator[Asked]:
    """Leave out what is only told where its peer is not there: goals stay."""
    here = {contender.name for contender in group.contenders}
    for asked in group.asked:
        if asked.least is not None or here.intersection(asked.peers):
            yield asked


def _row(group: str, asked: Asked, samples: Samples) -> Row:
    key = Key(group, asked.work, asked.phase)
    peer = samples.best(key, asked.peers)
    goal = "" if asked.least is None else f"≥ {asked.least:g}×"
    found = samples.compare(key, asked.ours, peer)
    what = f"{asked.work}, {asked.phase}: {asked.ours} against {peer}"
    if found is None:
        return Row(what, "not measured", goal)
    met = "" if asked.least is None or found.ratio >= asked.least else " (not met)"
    return Row(what, f"{found}; {found.ours:,.1f} against {found.peer:,.1f} tok/s", goal + met)


def _more(name: str, samples: Samples) -> Iterator[Row]:
    if name == "decode":
        yield from _resident(samples)
    if name == "cold":
        yield from _growth(samples)


def _resident(samples: Samples) -> Iterator[Row]:
    """Weights in memory: what the engine counts of them, and by how much loading has made its process grow."""
    on_disk = sum(file.stat().st_size for file in FOUR_BIT.glob("*.safetensors"))
    for contender in (FAST, BEFORE):
        if (facts := samples.facts.get(contender)) is not None:
            counted, grown = facts["memory_bytes"] / on_disk, facts["resident_bytes"] / on_disk
            goal = "≤ 1.05×" if contender == FAST else ""
            what = f"{contender}: resident weights to their file of {on_disk / 1e6:.0f} MB"
            yield Row(what, f"{counted:.2f}×; the process has grown by {grown:.2f}×", goal)


def _growth(samples: Samples) -> Iterator[Row]:
    """Time for 16,384 tokens to that for 4,096, against the multiplications of both."""
    config = json.loads((FOUR_BIT.parents[1] / "llama" / "16M" / "config.json").read_text())
    ideal = multiplications(config, 16384) / multiplications(config, 4096)
    for contender in samples.contenders("cold"):
        short, long = (samples.speeds(Key("cold", work, "prefill"), contender) for work in ("4,096", "16,384"))
        if short and long:
            grown = 4 * statistics.median(short) / statistics.median(long)
            figure = f"{grown / ideal:.2f}× ({grown:.1f}× the time for {ideal:.1f}× the multiplications)"
            yield Row(f"{contender}: growth from 4k to 16k", figure, "≤ 1.2×" if contender == PIPES else "")


def multiplications(config: dict[str, Any], tokens: int) -> float:
    """Multiplications of a llama's prefill: products with weights, and causal attention. The head counts once."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    narrow = hidden * config["num_key_value_heads"] // heads
    layer = 2 * hidden * hidden + 2 * hidden * narrow + 3 * hidden * config["intermediate_size"]
    weights = config["num_hidden_layers"] * layer * tokens + hidden * config["vocab_size"]
    return float(weights + config["num_hidden_layers"] * hidden * tokens * (tokens + 1))


def _speeds(name: str, samples: Samples) -> str:
    """Return tokens per second: a line for each contender, a column for each figure."""
    keys = samples.keys(name)
    lines = [
        "| tok/s, median (least to most) | " + " | ".join(f"{key.work}: {key.phase}" for key in keys) + " |",
        "| --- |" + " --- |" * len(keys),
    ]
    for contender in samples.contenders(name):
        cells = (_cell(samples.speeds(key, contender)) for key in keys)
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(speeds: list[float]) -> str:
    if not speeds:
        return ""
    return f"{statistics.median(speeds):,.1f} ({min(speeds):,.1f} to {max(speeds):,.1f})"


def settings(samples: Samples) -> str:
    """Return what each contender told of itself."""
    lines = (
        f"- {name}: " + ", ".join(f"{fact} {value}" for fact, value in facts.items())
        for name, facts in samples.facts.items()
    )
    return "\n".join(lines)


def write(path: Path, parts: list[str]) -> None:
    path.write_text("\n\n".join(parts) + "\n")
