"""Sixteen chats at once: ours over pipes, ``mlx_lm.server``, and llama.cpp with as many sequences in one batch."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ..measure import Row, table
from ..serving.bench import faster, in_turns
from ..serving.contender import Contender
from ..serving.figures import milliseconds, percentile, ratio
from ..serving.http_servers import MlxLmServer
from ..serving.load import Run, closed
from ..serving.models import NEVER, Prompts
from ..serving.sidecar import Sidecar
from .ggufs import smollm2
from .library import FOLDER
from .loop import LlamaLoop
from .peers import BFLOAT16, FOUR_BIT, Peers, random_16m

SIZES = {"chats-16M": "16M random, float32", "chats": "SmolLM2-135M"}
ROUNDS = 5
CHATS, TURNS, PROMPT, ANSWER = 16, 2, 64, 32
_ROOM = PROMPT + 2 * ANSWER
GREEDY: dict[str, Any] = {"temperature": 0}


class OursBefore(Sidecar):
    name = "ours before over pipes"


def contenders(name: str, peers: Peers) -> list[Contender]:
    """Make them; each has its fastest weights of the same model, so mlx_lm.server has float32."""
    if name == "chats-16M":
        ours, gguf = random_16m()
        server = ours
    else:
        ours, gguf = _endless(FOUR_BIT), smollm2("Q4_0")
        server = _float32(_endless(BFLOAT16))
    made: list[Contender] = [Sidecar(ours), MlxLmServer(server), LlamaLoop(gguf, CHATS, _ROOM)]
    if peers.before is not None:
        command = (peers.before, "-P", "-m", "mlx_sidecar", "serve", "--framing", "lines")
        made.append(OursBefore(ours, command=command))
    return made


def section(name: str, peers: Peers, rounds: int, tell: Callable[[str], None]) -> str:
    """Measure, and return a table in Markdown."""
    tell(f"{name}: {rounds} rounds")
    tokenizer = FOUR_BIT / "tokenizer.json" if name == "chats" else None
    runs = asyncio.run(_measured(contenders(name, peers), rounds, Prompts(5, tokenizer)))
    about = (
        f"{CHATS} clients, {TURNS} requests each, prompts of {PROMPT} tokens, greedy answers of {ANSWER} on average: "
        f"{SIZES[name]}. Ours has the 4-bit directory of the real model, llama.cpp Q4_0, mlx_lm.server float32."
    )
    return f"## {name}\n\n{about}\n\n{table(rows(runs))}"


async def _measured(made: Sequence[Contender], rounds: int, prompts: Prompts) -> dict[str, list[Run]]:
    async with AsyncExitStack() as stack:
        for contender in made:
            await stack.enter_async_context(contender)
            await closed(contender, CHATS, prompts.requests(CHATS, PROMPT, 4, settings=GREEDY))

        async def run(contender: Contender) -> Run:
            requests = prompts.requests(CHATS * TURNS, PROMPT, ANSWER, settings=GREEDY)
            return await closed(contender, CHATS, requests)

        return await in_turns(rounds, {contender.name: partial(run, contender) for contender in made})


def rows(runs: Mapping[str, Sequence[Run]]) -> list[Row]:
    """Compare ours with each peer, and tell of each contender its speed, first tokens and gaps."""
    ours = Sidecar.name
    asked = {MlxLmServer.name: ("≥ 2×", "≤ 0.3×")}
    found = []
    for peer in runs:
        if peer != ours:
            speed, first = asked.get(peer, ("", ""))
            found.append(faster(f"tokens/s: {ours} against {peer}", runs[ours], runs[peer], speed))
            mine, theirs = ([_worst(run) for run in runs[each]] for each in (ours, peer))
            figure = f"{ratio(mine, theirs)}; {milliseconds(statistics.median(mine))} against "
            what = f"worst first token: {ours} against {peer}"
            found.append(Row(what, figure + milliseconds(statistics.median(theirs)), first))
    return found + [Row(name, _described(each)) for name, each in runs.items()]


def _worst(run: Run) -> float:
    return max(run.first_tokens_s, default=math.inf)


def _described(runs: Sequence[Run]) -> str:
    speed = statistics.median(run.tokens_per_s for run in runs)
    worst = statistics.median(_worst(run) for run in runs)
    gaps = [gap for run in runs for gap in run.gaps_s]
    gap = f"gaps p50 {milliseconds(percentile(gaps, 50))}, p99 {milliseconds(percentile(gaps, 99))}"
    return f"{speed:,.0f} tok/s, worst first token {milliseconds(worst)}, {gap}"


def _endless(model: Path) -> Path:
    """Return a directory of the same weights whose end of text is a token that the model never draws."""
    folder = FOLDER / f"{model.name}-endless"
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model.safetensors").symlink_to(model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    end = config["eos_token_id"] = config["vocab_size"]
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": end, "content": NEVER})
    settings = json.loads((model / "tokenizer_config.json").read_text()) | {"eos_token": NEVER}
    for name, content in (("tokenizer", tokenizer), ("tokenizer_config", settings), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _float32(model: Path) -> Path:
    """Return ``model`` with its weights in float32, written in a process that imports mlx."""
    folder = FOLDER / f"{model.name}-float32"
    if not (folder / "model.safetensors").is_file():
        shutil.copytree(model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
        code = (
            "import sys, mlx.core as mx; weights = mx.load(sys.argv[1] + '/model.safetensors'); "
            "mx.save_safetensors(sys.argv[2] + '/writing', "
            "{name: each.astype(mx.float32) for name, each in weights.items()}, {'format': 'mlx'})"
        )
        subprocess.run([sys.executable, "-c", code, str(model), str(folder)], check=True)
        (folder / "writing.safetensors").replace(folder / "model.safetensors")
    return folder
