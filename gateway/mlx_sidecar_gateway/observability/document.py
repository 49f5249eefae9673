"""The table of metrics as Markdown: python -m mlx_sidecar_gateway.observability.document [--write FILE]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from .metric import Metric
from .names import OF_GATEWAY, OF_REQUESTS
from .sidecar_names import OF_SIDECAR

BEGIN = "<!-- metrics: written by python -m mlx_sidecar_gateway.observability.document --write -->"
END = "<!-- metrics: end -->"
_PARTS = {
    "Of requests, each of which is counted when it has ended": OF_REQUESTS,
    "Of the gateway": OF_GATEWAY,
    "Of the sidecar, as it tells them when they are asked for": OF_SIDECAR,
}


def tables() -> str:
    """The tables of all metrics, each with its heading."""
    return "\n".join(f"**{heading}**\n\n{_table(metrics)}" for heading, metrics in _PARTS.items())


def replaced(document: str) -> str:
    """``document`` with the tables between its two marks. Raises ``ValueError`` if it has no marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the tables: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _table(metrics: Iterable[Metric]) -> str:
    head = "| metric | type | unit | labels | | convention | vLLM's, `vllm:…` |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(_row(metric) for metric in metrics)


def _row(metric: Metric) -> str:
    name = metric.name if metric.kind == "histogram" else metric.series
    version = metric.follows.partition(", ")[2]
    cells = (
        f"`{name}`",
        metric.kind,
        metric.unit,
        _code(metric.labels),
        metric.help,
        f"`{metric.convention}`, {version}" if metric.convention else "",
        _code(metric.vllm.split(", ")),
    )
    return f"| {' | '.join(cells)} |\n"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mlx_sidecar_gateway.observability.document", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this document")
    file: Path | None = parser.parse_args().write
    if file is None:
        sys.stdout.write(tables())
    else:
        file.write_text(replaced(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
