"""Measures the gateway.

    python -m benchmarks.gateway [--only events,path,servers,agent_turns] [--rounds N] [--minutes N] [--quick] [--write]

events       processor time and allocations of the gateway's process for one event, beside a bare server
path         a token's way from the engine to the socket: each process's time, allocations and bytes
servers      16 and 64 clients on a real model, beside mlx_lm.server
agent_turns  the second turn of a coding agent's conversation: the part read from the cache, and its first token
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from ..measure import Row, machine, table
from ..serving import report
from ..serving.bench import Outcome

PARTS = {
    "events": "The gateway: the cost of an event",
    "path": "The gateway: from the engine's token to the socket",
    "servers": "The gateway beside mlx_lm.server",
    "agent_turns": "The gateway under a coding agent",
}


@dataclass(frozen=True)
class Form:
    """How much is measured: at most ``rounds``, and of the slow parts none that would end after ``minutes``.

    ``quick``: whether it runs, not how fast.
    """

    rounds: int
    minutes: float
    quick: bool


class Part(Protocol):
    """A module of this package; its ``run`` measures, and says in its docstring how."""

    def run(self, form: Form) -> list[Row]: ...


def main() -> None:
    args = _parser().parse_args()
    form = Form(1 if args.quick else args.rounds, args.minutes, args.quick)
    commit = report.commit()
    print(f"{machine()}; commit {commit}")
    for name in args.only.split(","):
        part = cast("Part", import_module(f".{name}", __package__))
        began = time.monotonic()
        rows = part.run(form)
        print(f"\n{PARTS[name]} ({time.monotonic() - began:.0f} s)\n\n{table(rows)}", flush=True)
        if args.write:
            about = " ".join((part.run.__doc__ or "").split())
            command = f"python -m benchmarks.gateway --only {name} --rounds {form.rounds}"
            report.write({PARTS[name]: report.section(PARTS[name], about, command, commit, Outcome(rows))}, [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each number of clients of servers")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast")
    parser.add_argument("--write", action="store_true", help="write the sections into docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    main()
