"""Runs scenarios and prints their tables; ``--write`` puts them into docs/benchmarks.md with their plots."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..measure import table
from . import report
from .bench import FULL, QUICK, Bench, Form, Outcome

SCENARIOS = {
    "streams": "Many streams at once",
    "chats": "Chats against servers",
    "short-beside-long": "A short request beside a long prompt",
    "long-among-short": "One long stream among short ones",
    "cancel": "Cancelling a prefill",
    "open-load": "Open load",
    "exact": "Batch invariance and its price",
}


def main() -> None:
    args = _parser().parse_args()
    form = QUICK if args.quick else FULL
    if args.compared:
        form = replace(form, compared=args.compared)
    sections = {}
    commit = report.commit()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.scenarios or SCENARIOS:
            module = import_module(f".scenarios.{name.replace('-', '_')}", __package__)
            outcome = _run(name, module, form, Path(folder))
            if args.plots is not None:
                report.write_plots(outcome, args.plots)
            title = SCENARIOS[name]
            sections[title] = report.section(title, _about(module), _command(name, args), commit, outcome)
            if args.write:
                report.write_plots(outcome, report.PLOTS)
                report.write(sections, list(SCENARIOS.values()))


def _run(name: str, module: Any, form: Form, folder: Path) -> Outcome:
    began = time.monotonic()
    outcome: Outcome = asyncio.run(module.run(Bench(form, folder)))
    print(f"\n{SCENARIOS[name]} ({name}, {time.monotonic() - began:.0f} s)\n\n{table(outcome.rows)}", flush=True)
    return outcome


def _about(module: Any) -> str:
    return " ".join(module.run.__doc__.split())


def _command(name: str, args: argparse.Namespace) -> str:
    options = ["--quick"] if args.quick else []
    options += ["--compared", str(args.compared)] if args.compared else []
    return " ".join(["python -m benchmarks.serving", name, *options])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="1M parameters, one round: whether it runs, not how fast")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and docs/plots")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots here")
    parser.add_argument("--compared", type=int, metavar="N", help="tokens that `exact` compares under fast numerics")
    return parser


if __name__ == "__main__":
    main()
