"""Sessions: the cost of a fork, the memory of many, and what the turns of a chat with tools and reasoning compute.

    python -m benchmarks.sessions [--only fork,memory,turns,death]

fork    the time of ``session/fork`` of a chat of 16,000 tokens, as its host sees it, on the fake engine; and the prefix
        cache before and after forks of a chat of 4,000 tokens on the real one
memory  the growth of the front with 1,000 sessions of 4,000 tokens and 16 KB of messages each, all separate
turns   20 turns of the embedded model, each with reasoning and half of them with a call, by a session and by messages
death   as many turns, with the engine killed between any two, against undisturbed ones: answers with the same tokens
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from mlx_sidecar.front.sessions import session_file
from mlx_sidecar.front.sessions.session_file import TurnRecord
from mlx_sidecar_client import Sidecar

from .faults.numerics import numerics
from .measure import Row, machine, table

ROOT = Path(__file__).parents[1]
TURNS = 20
SESSIONS, TOKENS, TEXT_BYTES = 1000, 4000, 16_000
SYSTEM = {"role": "system", "content": "You answer questions about mlx-sidecar, and read files for it."}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "The text of a file.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string", "enum": ["README.md", "docs/protocol.md"]}},
                "required": ["path"],
            },
        },
    }
]
THINKS = {"enable_thinking": True}
RESULT = (
    "mlx-sidecar is a language-model engine that any program can spawn. It speaks JSON-RPC on its standard streams."
)

Messages = list[dict[str, Any]]


def sidecar(*options: str) -> Sidecar:
    return Sidecar.spawn(command=ROOT / ".venv" / "bin" / "mlx-sidecar", options=options)


def user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


async def fork() -> list[Row]:
    model = "fake?text=Yes.&context=40000"
    async with sidecar("--engine", "fake") as fake:
        session = (await fake.request("session/open", {"model": model}))["session"]
        await fake.request("generate", {"session": session, "messages": user("x" * 16_000)})
        times_s = []
        for _ in range(200):
            began = time.perf_counter()
            await fake.request("session/fork", {"session": session})
            times_s.append(time.perf_counter() - began)
    async with sidecar() as real:
        session = (await real.request("session/open", {"model": "pocket"}))["session"]
        await real.request("generate", {"session": session, "messages": user("word " * 4000), "max_tokens": 1})
        before = await real.cache_stats()
        forks = [(await real.request("session/fork", {"session": session}))["session"] for _ in range(10)]
        copied = (await real.cache_stats()).ram.used_bytes - before.ram.used_bytes
        asked = {"session": forks[-1], "messages": user("And now?"), "max_tokens": 1}
        usage = (await real.request("generate", asked))["usage"]
    median, worst = (1e3 * each for each in (statistics.median(times_s), max(times_s)))
    computed = usage["prompt_tokens"] - usage["cached_tokens"]
    return [
        Row("fork of a chat of 16,000 tokens", f"{median:.2f} ms, at most {worst:.2f} ms", "≤ 1 ms"),
        Row("bytes of keys and values after ten forks", f"{copied:+d}", "0"),
        Row(f"a fork's first answer: tokens computed of {usage['prompt_tokens']}", f"{computed}"),
    ]


async def memory() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "chat.session")
        async with sidecar() as real:
            session = (await real.request("session/open", {"model": "pocket"}))["session"]
            await real.request("session/export", {"session": session, "path": path})
            _write_long(path)
            await real.request("session/import", {"path": path})
            before = (await real.stats()).memory.front_bytes or 0
            for _ in range(SESSIONS):
                await real.request("session/import", {"path": path})
            stats = await real.stats()
            grown = (stats.memory.front_bytes or 0) - before
    told = stats.gauges["sessions_bytes"]
    return [
        Row(f"front with {SESSIONS} more sessions of {TOKENS} tokens", f"+{grown / 2**20:.0f} MiB", "≤ 64 MB"),
        Row("of that by `sessions_bytes`", f"{told / 2**20:.0f} MiB"),
    ]


def _write_long(path: str) -> None:
    """Give the session in the file one turn of ``TOKENS`` tokens."""
    record, _ = session_file.read(path, 1 << 20)
    question = b'[{"role":"user","content":"%b"}]' % (b"x" * TEXT_BYTES)
    answer = b'{"role":"assistant","content":"Yes."}'
    tokens = array("I", (at % 2000 for at in range(TOKENS))).tobytes()
    record.turns.append(TurnRecord("turn_long", 0, question, answer, 0, tokens, 1, 0, "stop"))
    record.latest = 1
    session_file.write(path, record)


class Chat:
    """A chat with tools and reasoning: a question, a call, its result, an answer, and so on."""

    def __init__(self, real: Sidecar, session: str | None) -> None:
        self._real = real
        self._session = session
        self._messages: Messages = [SYSTEM]
        self.prefilled, self.prompts, self.answers = 0, list[int](), list[dict[str, Any]]()

    async def turn(self, number: int) -> None:
        calls = number % 2 == 0
        question = user(f"What does the project do? This is question {number}.")
        new = question if calls else [{"role": "tool", "content": RESULT, "tool_call_id": self._call_id()}]
        asked: dict[str, Any] = {"max_tokens": 120, "reasoning_budget": 24, "seed": 1}
        asked["tool_choice"] = {"name": "read_file"} if calls else "none"
        if self._session is None:
            asked |= {"model": "pocket", "messages": [*self._messages, *new], "tools": TOOLS, "template_args": THINKS}
        else:
            asked |= {"session": self._session, "messages": new}
        result = await self._real.request("generate", asked)
        self._messages += [*new, _message(result)]
        self.answers.append(result)
        usage = result["usage"]
        self.prompts.append(usage["prompt_tokens"])
        self.prefilled += usage["prompt_tokens"] - usage["cached_tokens"]

    @property
    def new_tokens(self) -> int:
        """Tokens of prompts that were computed in no turn before, where each prompt goes on behind the one before."""
        ends = [0, *(prompt + answer["usage"]["completion_tokens"] for prompt, answer in self._pairs)]
        return sum(prompt - end for prompt, end in zip(self.prompts, ends, strict=False))

    @property
    def _pairs(self) -> list[tuple[int, dict[str, Any]]]:
        return list(zip(self.prompts, self.answers, strict=True))

    def _call_id(self) -> str:
        calls: Messages = self._messages[-1].get("tool_calls") or [{"id": "none"}]
        return str(calls[-1]["id"])


def _message(result: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": result["text"], "reasoning_content": result.get("reasoning")}
    return {**message, "tool_calls": result.get("tool_calls")}


async def _chat(
    real: Sidecar, *, by_session: bool, between: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> Chat:
    session = None
    if by_session:
        opened = {"model": "pocket", "messages": [SYSTEM], "tools": TOOLS, "template_args": THINKS}
        session = (await real.request("session/open", opened))["session"]
    chat = Chat(real, session)
    for number in range(TURNS):
        await chat.turn(number)
        if between is not None:
            await between()
    return chat


async def turns() -> list[Row]:
    chats = []
    for by_session in (True, False):
        async with sidecar(*numerics()) as real:
            chats.append(await _chat(real, by_session=by_session))
    session, plain = chats
    new = session.new_tokens
    reasoned = sum(bool(answer.get("reasoning")) for answer in session.answers)
    called = sum(bool(answer.get("tool_calls")) for answer in session.answers)
    differs = sum(bool(answer["rendered_differs"]) for answer in session.answers)
    return [
        Row(f"{TURNS} turns, {reasoned} with reasoning, {called} with a call: new tokens", f"{new}"),
        Row("prefilled by session, to new ones", f"{session.prefilled}, {session.prefilled / new:.2f}", "≤ 1.05"),
        Row("prefilled by messages, to new ones", f"{plain.prefilled}, {plain.prefilled / new:.2f}"),
        Row("turns that the template would have rendered otherwise", f"{differs} of {TURNS}"),
    ]


async def death() -> list[Row]:
    async with sidecar(*numerics()) as real:

        async def kill() -> None:
            pid = (await real.stats()).engine.pid
            if pid is not None:  # else it has not come back since the last time
                os.kill(pid, signal.SIGKILL)

        undisturbed = await _chat(real, by_session=True)
        disturbed = await _chat(real, by_session=True, between=kill)
        restarts = (await real.stats()).health.restarts
    pairs = zip(undisturbed.answers, disturbed.answers, strict=True)
    same = sum(one["tokens"] == other["tokens"] for one, other in pairs)
    what = f"same tokens with {restarts} engines killed between turns, {' '.join(numerics())}"
    return [Row(what, f"{same} of {TURNS}", "all")]


PARTS = {"fork": fork, "memory": memory, "turns": turns, "death": death}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sessions.")
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    rows = list[Row]()
    for name in parser.parse_args().only.split(","):
        rows += asyncio.run(PARTS[name]())
    print(machine())
    print(table(rows))


if __name__ == "__main__":
    main()
