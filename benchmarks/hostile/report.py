"""The report of a siege: a line for each kind of file, and lines for all of them."""

from __future__ import annotations

from collections import Counter

from ..faults.report import Report, body
from ..measure import Row
from ..serving.figures import percentile
from .directory import KINDS
from .siege import PING_S, Siege
from .trial import Told

NOT_COVERED = """\
Not covered: tokenizers without a tokenizer.json (SentencePiece and the like, read by transformers), adapters, code of
models (`--trust-remote-code`), weights whose numbers are hostile, a directory that changes while it is read, answers of
a hub, and other architectures than pocket's beyond their config.json. Two mutations meet in one directory only within
one file."""


def table(told: list[Told]) -> str:
    """Return the outcomes of each kind of mutated file as a table in Markdown."""
    head = ["mutated", "trials", "loaded", "answers", "slowest trial", "refusals and endings"]
    lines = [head, ["---"] * len(head), *(_cells(kind, told) for kind in KINDS)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(kind: str, told: list[Told]) -> list[str]:
    mine = [each for each in told if each.trial.kind == kind]
    endings: Counter[str] = sum((each.endings for each in mine), Counter())
    slowest = max(mine, key=lambda each: each.seconds, default=None)
    slow = f"{slowest.seconds:.1f} s ({slowest.trial.number})" if slowest else ""
    words = ", ".join(f"{ending} {count:,}" for ending, count in endings.most_common())
    loaded = sum(each.loaded for each in mine)
    return [kind, f"{len(mine):,}", f"{loaded:,}", f"{endings.total():,}", slow, words]


def report(siege: Siege, *, quick: bool) -> Report:
    """Return the report of a siege. ``quick`` passes over late pings, because the machine is shared with tests."""
    longest_s = max(siege.pings_s, default=0.0)
    broken = list(siege.broken)
    broken += ["the front was lost"] * siege.front_lost
    broken += [f"{siege.restarts} restarts of the engine"] * bool(siege.restarts)
    late_s = max(siege.late_s, default=0.0)
    broken += [f"a ping took {late_s:.3f} s, without what the front waited for a processor"] * (
        late_s > PING_S and not quick
    )
    return Report(_rows(siege, longest_s), broken)


def _rows(siege: Siege, longest_s: float) -> list[Row]:
    pace = len(siege.told) / max(siege.seconds, 1e-9)
    p99 = percentile(siege.pings_s, 99) if siege.pings_s else 0.0
    return [
        Row("directories", f"{len(siege.told):,} in {siege.seconds:.0f} s, {pace:.1f} a second", "10,000"),
        Row("fronts lost", str(int(siege.front_lost)), "0"),
        Row("engines lost", f"{siege.engines_lost}; restarts {siege.restarts}", "0"),
        Row("text processes ended", f"{siege.texts_lost.total():,}{_reasons(siege.texts_lost)}", "may be"),
        Row("innocent streams beside them", f"{siege.streams:,}", "all of the same text"),
        Row("innocent chat rendered, longest", f"{siege.longest_text_s:.2f} s"),
        Row("answers to ping", f"p99 {p99 * 1e3:.1f} ms, longest {longest_s * 1e3:.0f} ms"),
        Row("late ones, without what the front waited for a processor", _late(siege), f"{PING_S * 1e3:.0f} ms"),
        Row("the front grew by", f"{siege.front_grown_bytes / 2**20:.0f} MiB", "100 MiB"),
    ]


def _reasons(lost: Counter[str]) -> str:
    return "".join(f"; {because} {count:,}" for because, count in lost.most_common(6))


def _late(siege: Siege) -> str:
    return f"{len(siege.late_s)} pings, longest {max(siege.late_s, default=0.0) * 1e3:.0f} ms"


def whole(siege: Siege, found: Report) -> str:
    """Return both tables, the broken promises and the limits of the run, in Markdown."""
    return f"{table(siege.told)}\n\n{body(found)}\n\n{NOT_COVERED}"
