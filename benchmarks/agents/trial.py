"""One agent at one gateway: a loop with a tool on the fake engine, or two turns on a real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from .agents import Agent
from .recorder import Exchange, Recorder, recorder

_PATIENCE_S = 600
_MODEL = "local"
# A model of this size writes on until its context is full, which agents take for an error. So its turn is a line.
_ONE_LINE = ("--default", "stop=\n", "--default", "temperature=0")
_SECRET, _ANSWER = "cobalt-heron-41", "The note says what it says."


@dataclass(frozen=True)
class Trial:
    """How it went.

    turns: Answers of a model that was offered tools, which leaves titles out.
    failure: Why it is none; empty for a success.
    """

    agent: Agent
    what: str
    exchanges: list[Exchange]
    failure: str

    @property
    def generations(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.generates]

    @property
    def turns(self) -> list[Exchange]:
        return [exchange for exchange in self.generations if exchange.body.get("tools")]

    @property
    def ignored(self) -> list[str]:
        return sorted({name for exchange in self.exchanges for name in exchange.ignored})


def tool_loop(agent: Agent, programs: Path) -> Trial:
    """It is told to read a file; the scripted model calls its tool for that, and answers the tool's result."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        (home / "note.txt").write_text(f"{_SECRET}\n")
        call = f"<tool_call>\n{json.dumps(agent.call(home / 'note.txt'))}\n</tool_call>"
        script = urlencode({"text": call, "then": _ANSWER, "context": 10_000_000})
        with _gateway(f"fake?{script}", "--engine", "fake") as record:
            failure = _turns(agent, programs, home, record, 8000, "Read note.txt and tell me what it says.")
        return Trial(agent, "tool loop, fake engine", record.exchanges, failure or _missing(record))


def _missing(record: Recorder) -> str:
    """Why a loop was none although the agent ended well."""
    if not any(_SECRET.encode() in exchange.asked for exchange in record.generations):
        return "the model was not told the tool's result"
    return ""


def two_turns(agent: Agent, programs: Path, model: Path) -> Trial:
    """Two questions in one conversation, to a real model whose answers end with their first line."""
    with tempfile.TemporaryDirectory() as folder, _gateway(str(model), *_ONE_LINE) as record:
        failure = _turns(agent, programs, Path(folder).resolve(), record, 1000, "Say hello.", "Say goodbye.")
        return Trial(agent, f"two turns, {model.name}", record.exchanges, failure)


def _turns(agent: Agent, programs: Path, home: Path, record: Recorder, limit: int, *prompts: str) -> str:
    """Run one turn after the other; returns why that failed, or nothing."""
    asked = agent.configure(home, record.url, _MODEL, limit)
    environment = {"HOME": str(home), "PATH": os.pathsep.join([str(programs), os.defpath]), **asked}
    for number, prompt in enumerate(prompts):
        command = [str(programs / agent.program), *agent.arguments(prompt, _MODEL, goes_on=number > 0)]
        try:
            done = subprocess.run(
                command,
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not done within {_PATIENCE_S} s"
        if done.returncode:
            return f"status {done.returncode}: {(done.stderr or done.stdout)[-300:]}"
    return ""


@contextmanager
def _gateway(model: str, *options: str) -> Iterator[Recorder]:
    """A gateway that offers ``model``, behind a recorder."""
    command = [sys.executable, "-P", "-m", "mlx_sidecar", "gateway", "--listen", "127.0.0.1:0"]
    offer = ["--model", f"{_MODEL}={model}"]
    with subprocess.Popen([*command, *offer, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = [process.stderr.readline() for _ in range(2)]
            if lines[1] != "ready\n":
                raise RuntimeError(f"the gateway did not start: {''.join(lines)}")
            with recorder(lines[0].split()[-1]) as record:
                yield record
        finally:
            process.terminate()
