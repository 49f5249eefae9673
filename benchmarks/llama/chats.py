"""Sixteen chats at once: ours over pipes, ``mlx_lm.server``, and llama.cpp with as many sequences in one batch."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ..measure import Row, table
from ..serving.contender import Contender
from ..serving.figures import milliseconds, percentile, ratio
from ..serving.http_servers import MlxLmServer
from ..serving.load import closed
from ..serving.models import NEVER, Prompts
from ..serving.request import ContenderFailed, Request
from ..serving.sidecar import Sidecar
from .ggufs import smollm2
from .library import FOLDER
from .loop import LlamaLoop
from .measuring import Sitting
from .peers import BFLOAT16, FOUR_BIT, Peers, random_16m
from .samples import Chat, Samples

SIZES = {
    "chats-16M": "A random model of 16M parameters in float32",
    "chats": "SmolLM2-135M: ours 4-bit, llama.cpp Q4_0, mlx_lm.server float32, which is its fastest on a CPU",
}
ROUNDS = 5
WITHIN_S = 300.0
PEERS = (MlxLmServer.name, LlamaLoop.name, Sidecar.name)
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
        ours, gguf = endless(FOUR_BIT), smollm2("Q4_0")
        server = in_float32(endless(BFLOAT16))
    made: list[Contender] = [Sidecar(ours), MlxLmServer(server), LlamaLoop(gguf, CHATS, _ROOM)]
    if peers.before is not None:
        command = (peers.before, "-P", "-m", "mlx_sidecar", "serve", "--framing", "lines")
        made.append(OursBefore(ours, command=command))
    return made


def measure(peers: Peers, samples: Samples, sitting: Sitting) -> None:
    """Add rounds to ``samples``; a contender that fails is left out from then on."""
    tokenizer = FOUR_BIT / "tokenizer.json" if sitting.name == "chats" else None
    asyncio.run(_measure(contenders(sitting.name, peers), Prompts(5, tokenizer), samples, sitting))


async def _measure(made: list[Contender], prompts: Prompts, samples: Samples, sitting: Sitting) -> None:
    async with AsyncExitStack() as stack:
        for contender in list(made):
            sitting.tell(f"{sitting.name}: starting {contender.name}")
            try:
                await stack.enter_async_context(contender)
            except (ContenderFailed, RuntimeError) as error:
                made.remove(contender)
                samples.absent[contender.name] = str(error)
            else:
                samples.absent.pop(contender.name, None)
                await _asked(contender, prompts.requests(CHATS, PROMPT, 4, settings=GREEDY))
        for _ in sitting.turns():
            requests = prompts.requests(CHATS * TURNS, PROMPT, ANSWER, settings=GREEDY)
            samples.chats.setdefault(sitting.name, []).append(await _round(made, requests, samples))


async def _round(made: list[Contender], requests: list[Request], samples: Samples) -> dict[str, Chat]:
    """Let each contender answer ``requests``; one that fails is left out from then on."""
    found = {}
    for contender in list(made):
        outcome = await _asked(contender, requests)
        if isinstance(outcome, str):
            made.remove(contender)
            samples.absent[contender.name] = outcome
        else:
            found[contender.name] = outcome
    return found


async def _asked(contender: Contender, requests: list[Request]) -> Chat | str:
    """Return the round, or why it failed."""
    outcome: Chat | str = ""
    try:
        async with asyncio.timeout(WITHIN_S):
            run = await closed(contender, CHATS, requests)
            outcome = Chat(run.tokens_per_s, max(run.first_tokens_s, default=math.inf), run.gaps_s)
    except* ContenderFailed as failed:
        outcome = f"{contender.name}: {failed.exceptions[0]}"
    except* TimeoutError:
        outcome = f"{contender.name} did not answer within {WITHIN_S:g} s"
    return outcome


def section(name: str, samples: Samples) -> str:
    """Return the table in Markdown."""
    about = (
        f"{SIZES[name]}; {CHATS} clients, {TURNS} requests each, prompts of {PROMPT} tokens, greedy answers of "
        f"{ANSWER} on average, one thread."
    )
    missing = [f"Not measured: {samples.absent[each]}" for each in PEERS if each in samples.absent]
    return "\n\n".join([f"## {name}", about, table(rows(samples.chats.get(name, []))), *missing])


def rows(rounds: Sequence[Mapping[str, Chat]]) -> list[Row]:
    """Compare ours with each peer, and tell of each contender its speed, first tokens and gaps."""
    names = list(dict.fromkeys(name for round_ in rounds for name in round_))
    found = []
    for peer in (name for name in names if name != Sidecar.name):
        both = [(round_[Sidecar.name], round_[peer]) for round_ in rounds if {Sidecar.name, peer} <= round_.keys()]
        if both:
            found += _compared(peer, *zip(*both, strict=True))
    return found + [Row(name, _described([round_[name] for round_ in rounds if name in round_])) for name in names]


def _compared(peer: str, ours: Sequence[Chat], theirs: Sequence[Chat]) -> list[Row]:
    asked = ("≥ 2×", "≤ 0.3×") if peer == MlxLmServer.name else ("", "")
    speed = ratio([chat.tokens_per_s for chat in ours], [chat.tokens_per_s for chat in theirs])
    first = ratio([chat.worst_first_s for chat in ours], [chat.worst_first_s for chat in theirs])
    against = f"{Sidecar.name} against {peer}"
    waits = f"{milliseconds(first.ours)} against {milliseconds(first.peer)}"
    return [
        Row(f"tokens/s: {against}", f"{speed}; {speed.ours:,.0f} against {speed.peer:,.0f} tok/s", asked[0]),
        Row(f"worst first token: {against}", f"{first}; {waits}", asked[1]),
    ]


def _described(chats: Sequence[Chat]) -> str:
    speed, worst = (statistics.median(column) for column in list(zip(*chats, strict=True))[:2])
    gaps = [gap for chat in chats for gap in chat.gaps_s]
    gap = f"gaps p50 {milliseconds(percentile(gaps, 50))}, p99 {milliseconds(percentile(gaps, 99))}"
    return f"{speed:,.0f} tok/s, worst first token {milliseconds(worst)}, {gap}"


def endless(model: Path) -> Path:
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


def in_float32(model: Path) -> Path:
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
