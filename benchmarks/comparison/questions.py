"""The questions, each with the words for what was answered: they are the rows of docs/comparison.md's table.

A cell says *honoured*, *refused* (a status from 400 on), *no effect* (an answer as without it), or what was seen.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil

from .server import CHAT, Server, carries_text

FORM = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "warm": {"type": "boolean"}},
    "required": ["name", "warm"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "forecast", "parameters": FORM}}
ANSWER_AT_ONCE: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
# An answer that goes on until max_tokens, because its tokens of the end are never drawn.
ENDLESS: dict[str, Any] = {"logit_bias": {"0": -100, "2": -100}, "temperature": 1.0}
LONG_TOKENS = 2000
PREAMBLE = "You answer briefly, and only what you were asked. Say so if you do not know. " * 24

Answer = dict[str, Any]
Question = Callable[[Server], str]


def verdict(response: httpx.Response, honoured: Callable[[Answer], bool]) -> str:
    """Return what became of a request, in a word."""
    if response.status_code >= 400:
        return f"refused ({response.status_code})"
    return "honoured" if honoured(response.json()) else "no effect"


def has_form(answer: Answer) -> bool:
    """Whether the answer is JSON with the members of the form, and no others."""
    try:
        value = json.loads(answer["choices"][0]["message"]["content"])
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict) and value.keys() == {"name", "warm"} and isinstance(value["warm"], bool)


def form(server: Server) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": "colour", "schema": FORM, "strict": True}}
    return verdict(server.ask(response_format=wanted, max_tokens=400, **ANSWER_AT_ONCE), has_form)


def tool(server: Server) -> str:
    answer = server.ask(tools=[TOOL], tool_choice="required", max_tokens=100)
    return verdict(answer, lambda told: bool(told["choices"][0]["message"].get("tool_calls")))


def cut_call(server: Server) -> str:
    """Ask for a call in fewer tokens than it needs; tell what the answer says of it."""
    response = server.ask(tools=[TOOL], tool_choice="required", max_tokens=12)
    if response.status_code >= 400:
        return f"an error ({response.status_code})"
    choice = response.json()["choices"][0]
    calls = choice["message"].get("tool_calls")
    reason = f"`{choice['finish_reason']}`"
    if not calls:
        return f"no call, {reason}"
    try:
        json.loads(calls[0]["function"]["arguments"])
    except ValueError:
        return f"a part of a call, {reason}"
    return f"a call, {reason}"


def several(server: Server) -> str:
    return verdict(server.ask(n=2), lambda told: len(told["choices"]) == 2)


def unknown(server: Server) -> str:
    return verdict(server.ask(no_such_parameter=1), lambda _: False)


def seed(server: Server) -> str:
    texts = {server.text(temperature=1.5, seed=7) for _ in range(2)}
    return "the same text" if len(texts) == 1 else "another text"


def seed_in_a_batch(server: Server) -> str:
    alone = server.text(temperature=1.5, seed=7)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda number: server.text(temperature=1.5, seed=number), range(8)))
    return "the same text" if texts[7] == alone else "another text"


def together(server: Server) -> str:
    """Ask something short while a long answer streams; tell which ends first."""
    begun, ended = threading.Event(), threading.Event()

    def long() -> bool:
        try:
            for event in server.stream(max_tokens=LONG_TOKENS, **ENDLESS):
                if carries_text(event):
                    begun.set()
        except httpx.HTTPError:
            return False
        finally:
            ended.set()
            begun.set()
        return True

    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(long)
        begun.wait()
        server.text(max_tokens=4)
        first = not ended.is_set()
        if not streaming.result():
            return "the long one is broken off"
    return "side by side" if first else "one after the other"


def prefix(server: Server) -> str:
    """Ask two things behind the same instructions; tell how much of the second prompt is said to be cached."""
    system = {"role": "system", "content": PREAMBLE}
    for question in ("What is a delta?", "What is a window?"):
        answer = server.ask(messages=[system, {"role": "user", "content": question}], max_tokens=4).json()
    usage = answer["usage"]
    told = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return "not told" if told is None else f"{told} of {usage['prompt_tokens']} tokens"


def cancelled(server: Server) -> str:
    """Compare the processor time of a whole long answer with that of one that is left after its first words."""
    before, began = server.cpu_s(), time.monotonic()
    for _ in server.stream(max_tokens=LONG_TOKENS, **ENDLESS):
        pass
    whole_s = server.cpu_s() - before
    idle = 0.1 * whole_s / (time.monotonic() - began)  # of a processor: a tenth of what an answer takes here and now
    before = server.cpu_s()
    stream = server.stream(max_tokens=LONG_TOKENS, **ENDLESS)
    next(event for event in stream if carries_text(event))
    stream.close()  # type: ignore[attr-defined]
    _until_idle(server, idle)
    return "stops computing" if server.cpu_s() - before < whole_s / 2 else "computes to the end"


def _until_idle(server: Server, idle: float) -> None:
    """Wait until its processes take less than ``idle`` of a processor for two seconds."""
    while True:
        before, began = server.cpu_s(), time.monotonic()
        time.sleep(2.0)
        if (server.cpu_s() - before) / (time.monotonic() - began) < idle:
            return


def served(path: str, **body: Any) -> Question:
    """Return a question: whether a path is served."""

    def asked(server: Server) -> str:
        status = server.ask(path, **body).status_code
        return "served" if status < 400 else f"no ({status})"

    return asked


def memory(server: Server) -> str:
    """Tell the memory that its processes do not share with others, after all questions above."""
    megabytes = sum(process.memory_full_info().uss for process in server.processes()) / 1e6
    return f"{megabytes:.0f} MB"


def killed(server: Server) -> str:
    """Kill the process that computes in mid-stream; tell how the stream ends."""
    events: list[str] = []
    try:
        for event in server.stream(max_tokens=400, temperature=1.5, seed=3, logit_bias=ENDLESS["logit_bias"]):
            events.append(event)
            if len(events) == 4:
                psutil.Process(server.victim()).send_signal(signal.SIGKILL)
    except httpx.HTTPError as error:
        return f"broken off: {type(error).__name__}"
    return "goes on to its end" if "[DONE]" in events else "ends without its end"


QUESTIONS: dict[str, Question] = {
    "`response_format` with a JSON schema": form,
    "`tool_choice: required`": tool,
    "a tool call that `max_tokens` cuts off": cut_call,
    "`n: 2`": several,
    "a parameter that does not exist": unknown,
    "a seed, twice": seed,
    "a seed, alone and beside seven others": seed_in_a_batch,
    "a short answer asked for while a long one streams": together,
    "the second question behind the same instructions: cached": prefix,
    "the host leaves a stream": cancelled,
    "OpenAI's `/v1/responses`": served("/v1/responses", input="Hello", max_output_tokens=8),
    "Anthropic's `/v1/messages`": served("/v1/messages", messages=CHAT, max_tokens=8),
    "Ollama's `/api/chat`": served("/api/chat", messages=CHAT, stream=False),
    "`/tokenize`": served("/tokenize", content="Hello"),
    "memory after all of these": memory,
    "the process that computes is killed in mid-stream": killed,
}
