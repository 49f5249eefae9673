"""Steps that fail, in scripts of the fake engine: exceptions, failed allocations, crashes and hangs.

Also sixteen requests of which two end every engine that runs them, and engines that die as soon as they are started.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from mlx_sidecar.engine.fake.fake_script import END
from mlx_sidecar.engine.fake.fake_script import Script as FakeScript

from ..promises import Frame, ending
from ..serving.request import ContenderFailed
from .host import Host, within
from .report import Outcome, Report

_STREAMS = 16
_FROM, _LONGEST = 20, 60  # tokens before the script strikes, and of the longest answers
_STALL_S = 0.5
_POISON_TOKEN = ord("!")
_PACE = "delay_ms=1"


@dataclass(frozen=True)
class Script:
    """``options`` of the fake engine's model; the requests in ``poison`` end every engine.

    Where not ``everywhere``, the script strikes only answers that are longer than ``_FROM``: those in ``poison``.
    """

    fault: str
    options: str
    poison: frozenset[int] = field(default_factory=frozenset)
    everywhere: bool = True
    stall_s: float = 10.0  # longer than any step on a busy machine

    def request(self, n: int) -> Frame:
        most = _LONGEST if self.everywhere or n in self.poison else _FROM
        mark = "!" if n in self.poison else "."
        request: Frame = {"prompt": f"Request {n}{mark}", "max_tokens": most, "seed": n, "ignore_eos": True}
        return request if n % 4 == 3 else {**request, "stream": n}

    def right(self, n: int) -> str:
        """Return the text of request ``n`` where nothing strikes."""
        request = self.request(n)
        answer = FakeScript(tokens=_LONGEST).answer(list(request["prompt"].encode()), request["seed"])
        tokens = islice(answer, request["max_tokens"])
        return bytes(ord(" ") if token == END else token for token in tokens).decode()


def _scripts(pick: random.Random, quick: bool) -> list[Script]:
    two = frozenset(pick.sample(range(_STREAMS), 2))
    scripts = [
        Script("a step raises, once for each request", f"raise_after={_FROM}"),
        Script("a step finds no memory for more than four", "memory_rows=4"),
        Script("a crash, once for each request", f"crash_after={_FROM}"),
        Script("two requests end every engine", f"poison_after={_FROM}", two, everywhere=False),
        Script("two prompts end every engine", f"poison_token={_POISON_TOKEN}", two),
        Script("two requests whose steps raise every time", f"poison_raise={_FROM}", two, everywhere=False),
    ]
    slow = [
        Script("a hang, once for each request", f"hang_after={_FROM}", stall_s=_STALL_S),
        Script("one request that hangs every time", f"poison_hang={_FROM}", frozenset([min(two)]), False, _STALL_S),
    ]
    return scripts if quick else scripts + slow


def run(seed: int, quick: bool) -> Report:
    return asyncio.run(_run(random.Random(seed), quick))


async def _run(pick: random.Random, quick: bool) -> Report:
    outcomes, broken = [], []
    for script in _scripts(pick, quick):
        outcome, faults = await _play(script)
        outcomes.append(outcome)
        broken += [f"{script.fault}: {fault}" for fault in faults]
    outcome, faults = await _crash_loop()
    broken += [f"{outcome.fault}: {fault}" for fault in faults]
    return Report([], broken, (*outcomes, outcome))


async def _play(script: Script) -> tuple[Outcome, list[str]]:
    async with Host("--engine", "fake", "--stall-after-s", str(script.stall_s)) as host:
        answers, endings = await _answers(host, script, f"fake?tokens={_LONGEST}&{_PACE}&{script.options}")
        stats = await host.call("stats", {})
    differ = [n for n, answer in answers.items() if n not in script.poison and _text(answer) != script.right(n)]
    faults = host.promises.broken + [f"request {n} has not the text of the script" for n in differ]
    faults += [f"request {n} ended as {ending(answers[n])}" for n in script.poison if not _poisoned(answers[n])]
    lost = sum(state.name == "lost" for state in host.states)
    told = ", ".join(f"{count} {how}" for how, count in endings.most_common())
    words = f"{told}; {lost} engines lost, {stats['counters'].get('interruptions', 0)} interruptions"
    kept = len(answers) - len(host.promises.at_fault)
    struck = len(script.poison) or _STREAMS
    return Outcome(script.fault, struck, _STREAMS, kept, _STREAMS, len(differ), words), faults


async def _answers(host: Host, script: Script, model: str) -> tuple[dict[int, Frame], Counter[str]]:
    """Return the answers to all requests, sent at once. Raises Stuck if one does not come."""
    await host.call("load", {"model": model})
    asked = {}
    for n in range(_STREAMS):
        may = ("poison_request",) if n in script.poison else ()
        asked[n] = host.ask({"model": model, **script.request(n)}, may)
    answers = {n: await within(f"answer to request {n}", answer) for n, answer in asked.items()}
    return answers, Counter(ending(answer) for answer in answers.values())


def _text(answer: Frame) -> object:
    return answer["result"]["text"] if "result" in answer else None


def _poisoned(answer: Frame) -> bool:
    return ending(answer) == "poison_request"


async def _crash_loop() -> tuple[Outcome, list[str]]:
    """Kill every engine as soon as it is there, until the sidecar gives up."""
    may = ("engine_lost",)
    async with Host("--engine", "fake") as host:
        await host.entered("ready")
        model = f"fake?tokens=2000&{_PACE}"
        await host.call("load", {"model": model})
        request: Frame = {"model": model, "prompt": "Open", "ignore_eos": True, "max_tokens": 2000}
        waiting = [host.ask({**request, "stream": n}, may) for n in range(_STREAMS)]
        await within("delta", host.next_delta(0))
        killer = asyncio.create_task(_kill_all(host))
        failed = await host.entered("failed")
        answers = [await within("answer", answer) for answer in waiting]
        killer.cancel()
        late = await within("refusal", host.ask(request, may))
        faults = [f"an open request ended as {ending(answer)}" for answer in answers if ending(answer) != may[0]]
        faults += [] if ending(late) == may[0] else [f"a new request ended as {ending(late)}"]
        faults += await _served_again(host, model)
    lost = sum(state.name == "lost" for state in host.states)
    kept = len(answers) + 1 - len(faults)
    words = f"open requests and a new one answered `engine_lost`: {failed.because}; `load` brought an engine back"
    outcome = Outcome("every engine dies at once", lost, _STREAMS, kept, _STREAMS + 1, None, words)
    return outcome, faults + host.promises.broken


async def _kill_all(host: Host) -> None:
    while True:
        pid = host.engine_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.002)


async def _served_again(host: Host, model: str) -> list[str]:
    """Check that after giving up a load starts an engine, which answers."""
    try:
        await host.call("load", {"model": model})
    except ContenderFailed as failure:
        return [f"a load did not bring the engine back: {failure}"]
    answer = await within("answer", host.ask({"model": model, "prompt": "Again", "max_tokens": 5}))
    return [] if ending(answer) == "length" else [f"after the load a request ended as {ending(answer)}"]
