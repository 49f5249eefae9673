"""The second turn of a coding agent's conversation: the part of it that was in the cache, and its first token."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, NamedTuple

from anthropic import Anthropic
from openai import OpenAI

from mlx_sidecar import pocket

from ..llama.peers import FOUR_BIT
from ..measure import Row
from ..serving.figures import milliseconds
from ..serving.models import make
from .agents import Agent, Sizes, agent

if TYPE_CHECKING:
    from .__main__ import Form

COMMAND = [sys.executable, "-P", "-m", "mlx_sidecar", "gateway", "--listen", "127.0.0.1:0"]
LONG_CONTEXT = 131_072
ROUNDS = 3  # at most, because shares do not vary and a first turn takes long
ANSWER = 24
WHOLE, CUT = Sizes(), Sizes(tools_bytes=20_000)  # the latter fits into a context of 8,192 tokens
_VERSION = "x-anthropic-billing-header: cc_version=2.1.{}.0df; cc_entrypoint=sdk-cli;"


class Turn(NamedTuple):
    """An answer: its text, the seconds to its first token, and the prompt's tokens, all and those from the cache."""

    text: str
    first_token_s: float
    prompt: int
    cached: int

    @property
    def share(self) -> float:
        return self.cached / self.prompt


class Turns(NamedTuple):
    """The first turn of a conversation, the second, and the second as another version of the agent sends it."""

    first: Turn
    second: Turn
    renewed: Turn


@dataclass(frozen=True)
class Case:
    """A model, made in a folder, and the sizes of the conversations that fit into its context."""

    what: str
    model: Callable[[Path], Path]
    sizes: Sizes


def _long_random(folder: Path) -> Path:
    """The random model of 1M parameters, told that its context is long: its positions are computed, not learned."""
    path = make("1M", folder)
    for name, member in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        file = path / name
        file.write_text(json.dumps({**json.loads(file.read_text()), member: LONG_CONTEXT}))
    return path


def _real(folder: Path) -> Path:
    """SmolLM2 at 4 bits with pocket's template, because its own has no place for tools; both are ChatML."""
    path = folder / "smollm2"
    path.mkdir()
    for file in FOUR_BIT.iterdir():
        (path / file.name).symlink_to(file)
    (path / "chat_template.jinja").symlink_to(pocket.PATH / "chat_template.jinja")
    return path


CASES = (
    Case("random 1M, 6 kB of system, 24 tools of 64 kB", _long_random, WHOLE),
    Case("SmolLM2-135M, 6 kB of system, 24 tools of 20 kB", _real, CUT),
)


class _Anthropic:
    def __init__(self, url: str, model: str) -> None:
        self._client = Anthropic(base_url=url, api_key="none", max_retries=0, timeout=600)
        self._model = model

    def ask(self, asked: Agent, history: list[tuple[str, str]], version: int) -> Turn:
        texts = [_VERSION.format(version), *asked.system]
        system = [{"type": "text", "text": text} for text in texts]
        messages: list[dict[str, Any]] = [{"role": "user", "content": asked.question}]
        for at, (said, result) in enumerate(history):
            use = {"type": "tool_use", "id": f"call{at}", "name": "tool_0", "input": {"p0": "a"}}
            text = [{"type": "text", "text": said}] if said else []
            messages.append({"role": "assistant", "content": [*text, use]})
            told = {"type": "tool_result", "tool_use_id": f"call{at}", "content": result}
            messages.append({"role": "user", "content": [told]})
        body: dict[str, Any] = {"model": self._model, "system": system, "messages": messages, "tools": asked.tools}
        body["tool_choice"] = {"type": "none"}
        body["extra_body"] = {"temperature": 0.0}  # the client's own method has it no more
        said, first_s = "", 0.0
        began = time.monotonic()
        with self._client.messages.stream(max_tokens=ANSWER, **body) as stream:
            for event in stream:
                if event.type == "text":
                    first_s = first_s or time.monotonic() - began
                    said += event.text
            usage = stream.get_final_message().usage
        cached = usage.cache_read_input_tokens or 0
        return Turn(said, first_s, usage.input_tokens + cached, cached)


class _OpenAI:
    def __init__(self, url: str, model: str) -> None:
        self._client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
        self._model = model

    def ask(self, asked: Agent, history: list[tuple[str, str]], version: int) -> Turn:
        """``version`` has no place in these requests."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": "\n".join(asked.system)}]
        messages.append({"role": "user", "content": asked.question})
        for at, (said, result) in enumerate(history):
            call = {"id": f"call{at}", "type": "function", "function": {"name": "tool_0", "arguments": '{"p0": "a"}'}}
            messages.append({"role": "assistant", "content": said, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"call{at}", "content": result})
        tools = [{"type": "function", "function": _function(tool)} for tool in asked.tools]
        body: dict[str, Any] = {"model": self._model, "messages": messages, "tools": tools, "tool_choice": "none"}
        body |= {"max_tokens": ANSWER, "temperature": 0.0, "stream": True, "stream_options": {"include_usage": True}}
        said, first_s, usage = "", 0.0, None
        began = time.monotonic()
        stream: Any = self._client.chat.completions.create(**body)
        for chunk in stream:
            usage = chunk.usage or usage
            for text in (choice.delta.content for choice in chunk.choices if choice.delta.content):
                first_s = first_s or time.monotonic() - began
                said += text
        assert usage is not None
        details = usage.prompt_tokens_details
        return Turn(said, first_s, usage.prompt_tokens, (details.cached_tokens or 0) if details else 0)


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"]}


_Client = _Anthropic | _OpenAI
SURFACES: dict[str, Callable[[str, str], _Client]] = {"messages": _Anthropic, "chat/completions": _OpenAI}


@contextmanager
def _gateway(model: Path) -> Iterator[str]:
    with Popen([*COMMAND, "--model", f"agent={model}"], stderr=PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = process.stderr.readline().split()[-1]
            if process.stderr.readline() != "ready\n":
                raise RuntimeError("the gateway did not start")
            yield url
        finally:
            process.terminate()


def run(form: Form) -> list[Row]:
    """A conversation with a system prompt and tools of the size of Claude Code's, of words by a seeded generator.

    A turn is a question, or a tool's result of 600 bytes, and a greedy answer of 24 tokens, which the agent takes for
    a call. The second turn is asked again as another version of the agent, which names itself before the system prompt.
    The real model's context of 8,192 tokens holds one with shorter tools; the random model's is as long as wanted.
    """
    rows: list[Row] = []
    for case in CASES[:1] if form.quick else CASES:
        with tempfile.TemporaryDirectory() as folder, _gateway(case.model(Path(folder))) as url:
            for at, (surface, client) in enumerate(SURFACES.items()):
                asking = client(url, "agent")
                asking.ask(agent(0, Sizes(300, 2, 600)), [], 0)  # everything is touched once
                turns = [
                    _turns(asking, agent(1 + 100 * at + number, case.sizes))
                    for number in range(min(ROUNDS, form.rounds))
                ]
                rows += _rows(f"{case.what}, {surface}", turns, versions=surface == "messages")
    return rows


def _turns(client: _Client, asked: Agent) -> Turns:
    first = client.ask(asked, [], 197)
    history = [(first.text, asked.result)]
    turns = Turns(first, client.ask(asked, history, 197), client.ask(asked, history, 198))
    if not all(turn.text for turn in turns):
        raise RuntimeError("an answer has no text, and so no first token")
    return turns


def _rows(what: str, turns: list[Turns], *, versions: bool) -> Iterator[Row]:
    tokens = round(statistics.median(each.second.prompt for each in turns))
    yield Row(f"{what}: part of the second turn's {tokens:,} tokens that was cached", _share(turns, "second"), "≥ 95 %")
    if versions:
        yield Row(f"{what}: the same under another version", _share(turns, "renewed"), "≥ 95 %")
    ratios = sorted(each.second.first_token_s / each.first.first_token_s for each in turns)
    first, second = (
        milliseconds(statistics.median(getattr(each, name).first_token_s for each in turns))
        for name in ("first", "second")
    )
    told = f"{statistics.median(ratios):.3f}× ({ratios[0]:.3f} to {ratios[-1]:.3f}); {second} against {first}"
    yield Row(f"{what}: first token of the second turn against the first's", told)


def _share(turns: list[Turns], name: str) -> str:
    shares = [getattr(each, name).share for each in turns]
    return f"{100 * min(shares):.1f} %" + (" at least" if len(shares) > 1 else "")
