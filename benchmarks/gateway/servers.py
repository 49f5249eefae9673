"""The gateway on a real model beside ``mlx_lm.server``: tokens per second, first tokens and gaps of many clients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..llama.chats import GREEDY, endless, in_float32
from ..llama.measuring import Sitting
from ..llama.peers import BFLOAT16, FOUR_BIT
from ..measure import Row
from ..serving.contender import Contender
from ..serving.figures import Ratio, milliseconds, percentile, ratio
from ..serving.http_servers import HttpContender, MlxLmServer
from ..serving.load import Run, closed
from ..serving.models import Prompts

if TYPE_CHECKING:
    from .__main__ import Form

CLIENTS = (16, 64)
TURNS, PROMPT, ANSWER = 2, 64, 32


class Gateway(HttpContender):
    """``mlx-sidecar gateway`` with its defaults; ``weights`` says which it has."""

    def __init__(self, model: Path, weights: str) -> None:
        super().__init__(model)
        self.name = f"ours, {weights}"

    def command(self) -> list[str]:
        listen = f"127.0.0.1:{self._process.port}"
        return [sys.executable, "-P", "-m", "mlx_sidecar", "gateway", "--listen", listen, "--model", str(self._model)]


def run(form: Form) -> list[Row]:
    """SmolLM2-135M, prompts of 64 tokens, two greedy answers of 32 on average for each client.

    Ours at 4 bits, which is its fastest, and in the server's own float32 weights, which are its fastest on a CPU; one
    thread each, in turns, with the same prompts in each round. A gap is one between two events of a stream.
    """
    return asyncio.run(_run(form))


async def _run(form: Form) -> list[Row]:
    same = in_float32(endless(BFLOAT16))
    contenders: list[Contender] = [
        Gateway(endless(FOUR_BIT), "4-bit"),
        Gateway(same, "float32"),
        MlxLmServer(same),
    ]
    prompts = Prompts(11, FOUR_BIT / "tokenizer.json")
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        for contender in contenders:
            await stack.enter_async_context(contender)
            await closed(contender, 4, prompts.requests(4, PROMPT, 4, settings=GREEDY))
        for clients in CLIENTS[:1] if form.quick else CLIENTS:
            sitting = Sitting(f"{clients} clients", form.rounds, form.minutes, print, _nothing)
            done: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
            for _ in sitting.turns():
                requests = prompts.requests(clients * TURNS, PROMPT, ANSWER, settings=GREEDY)
                for contender in contenders:
                    done[contender.name].append(await closed(contender, clients, requests))
            rows += _rows(clients, done)
    return rows


def _rows(clients: int, done: dict[str, list[Run]]) -> list[Row]:
    *ours, peer = done
    rows = []
    for name in ours:
        against = f"{clients} clients: {name} against {peer}"
        speed = ratio([run.tokens_per_s for run in done[name]], [run.tokens_per_s for run in done[peer]])
        rows.append(Row(f"{against}, tokens/s", f"{speed}; {speed.ours:,.0f} against {speed.peer:,.0f}"))
        for what, of in _WAITS.items():
            rows.append(Row(f"{against}, {what}", _told(ratio(of(done[name]), of(done[peer])))))
    return rows


def _told(found: Ratio) -> str:
    return f"{found}; {milliseconds(found.ours)} against {milliseconds(found.peer)}"


def _middle_first(runs: Sequence[Run]) -> list[float]:
    return [percentile(run.first_tokens_s, 50) for run in runs]


def _worst_first(runs: Sequence[Run]) -> list[float]:
    return [max(run.first_tokens_s) for run in runs]


def _worst_gap(runs: Sequence[Run]) -> list[float]:
    return [max(run.gaps_s) for run in runs]


_WAITS = {"median first token": _middle_first, "worst first token": _worst_first, "worst gap": _worst_gap}


def _nothing() -> None:
    """Rounds are not kept on disk."""
