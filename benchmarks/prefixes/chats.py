"""Sixteen chats of twenty turns at once under pocket's template: how many tokens are prefilled for each new one."""

from __future__ import annotations

from typing import Any

from mlx_sidecar.host import Host

from ..measure import Row
from ..serving.models import Prompts

CHATS = 16
TURNS = 20
MESSAGE_TOKENS = 60
ANSWER_TOKENS = 40
SYSTEM = "You answer briefly. " * 20


def run() -> list[Row]:
    prompts = Prompts(5)
    chats: list[list[dict[str, str]]] = [[{"role": "system", "content": SYSTEM}] for _ in range(CHATS)]
    known = [0] * CHATS
    prefilled = new = 0
    with Host() as host:
        system = len(_render(host, chats[0])) - 1
        for turn in range(TURNS):
            for chat in chats:
                chat.append({"role": "user", "content": prompts.request(MESSAGE_TOKENS, 1).text})
            ids = [host.send("generate", _params(chat)) for chat in chats]
            results = host.collect(ids)
            for number, id_ in enumerate(ids):
                result, usage = results[id_], results[id_]["usage"]
                prefilled += usage["prompt_tokens"] - usage["cached_tokens"]
                # New tokens of the chat; the system's text is new once, for all chats.
                begun = known[number] if turn else (system if number else 0)
                new += usage["prompt_tokens"] - begun
                known[number] = usage["prompt_tokens"] + usage["completion_tokens"]
                chats[number].append({"role": "assistant", "content": result["text"]})
    what = f"{CHATS} chats of {TURNS} turns at once, pocket, {MESSAGE_TOKENS} + {ANSWER_TOKENS} tokens a turn"
    return [Row(what, f"{prefilled / new:.3f} tokens prefilled for each new one ({prefilled} for {new})", "≤ 1.05")]


def _params(chat: list[dict[str, str]]) -> dict[str, Any]:
    return {"model": "pocket", "messages": chat, "max_tokens": ANSWER_TOKENS, "temperature": 0.7}


def _render(host: Host, chat: list[dict[str, str]]) -> list[int]:
    tokens: list[int] = host.call("render", {"model": "pocket", "messages": chat, "add_generation_prompt": False})[
        "tokens"
    ]
    return tokens
