"""Claude Code, Codex and opencode against the gateway, each in an empty home: which requests, endings, cached tokens.

    python -m benchmarks.agents [--agent NAME …] [--programs FOLDER] [--model DIRECTORY]

installs the agents' packages from npm, a gigabyte, into FOLDER, or else a temporary one. Each agent reads a file by a
call of its own tool, which a fake model scripts, and then has two turns with a real model (``make setup-real``). Exits
with 1 if one of these fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..measure import machine
from .agents import AGENTS, Agent
from .trial import Trial, tool_loop, two_turns

_HEADING = "| agent | run | turns | requests | endings | cached of the last prompt's tokens | ignored parameters |"
MODEL = Path(__file__).parents[2] / ".venv" / "models" / "smollm2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", action="append", choices=[agent.program for agent in AGENTS], help="only this one")
    parser.add_argument("--programs", type=Path, help="where the agents are, or are installed")
    parser.add_argument("--model", type=Path, default=MODEL, help="the real model: %(default)s")
    given = parser.parse_args()
    chosen = [agent for agent in AGENTS if not given.agent or agent.program in given.agent]
    with tempfile.TemporaryDirectory() as temporary:
        programs = install(chosen, given.programs or Path(temporary))
        print(f"{machine()}\n\n{_HEADING}\n{'|---' * 7}|", flush=True)
        failed = [report(trial) for agent in chosen for trial in trials(agent, programs, given.model)]
    sys.exit(any(failed))


def install(agents: Sequence[Agent], folder: Path) -> Path:
    """Install what is missing; returns the folder of the commands."""
    programs = folder / "bin"
    missing = [agent for agent in agents if not (programs / agent.program).exists()]
    if missing:
        # Two of them are put in place by scripts of their own, which npm runs if it is told so, and if it is global.
        allowed = f"--allow-scripts={','.join(agent.package for agent in missing)}"
        command = ["npm", "install", "--global", "--prefix", str(folder), "--no-audit", "--no-fund", allowed]
        subprocess.run([*command, *(f"{agent.package}@{agent.version}" for agent in missing)], check=True)
    return programs.resolve()


def trials(agent: Agent, programs: Path, model: Path) -> Iterator[Trial]:
    """The trials of one agent; without a real model only that on the fake engine."""
    yield tool_loop(agent, programs)
    if model.is_dir():
        yield two_turns(agent, programs, model)


def report(trial: Trial) -> bool:
    """Print the row of ``trial``; returns whether it failed."""
    endings = Counter(exchange.told.ending for exchange in trial.generations)
    last = trial.turns[-1].told if trial.turns else None
    cells = (
        f"{trial.agent.name} {trial.agent.version}",
        trial.what,
        len(trial.turns),
        len(trial.exchanges),
        ", ".join(f"{count} {ending}" for ending, count in endings.items()),
        f"{last.cached} of {last.prompt}" if last else "",
        ", ".join(trial.ignored),
    )
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    if trial.failure:
        print(f"\n{trial.agent.name}, {trial.what}: {trial.failure}\n", file=sys.stderr)
    return bool(trial.failure)


if __name__ == "__main__":
    main()
