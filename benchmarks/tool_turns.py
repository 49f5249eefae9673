"""The prefix cache under chats with tools and reasoning: prefilled tokens for each new one, over twenty turns.

    python -m benchmarks.tool_turns [--turns N] [--explain]

A turn is a question, an answer that calls a tool, the tool's result, and an answer in words, each given back as a
message with its reasoning and its calls. New tokens are those from the end of the last answer on: its end of turn, the
messages behind it, and the opening of the next answer; in the first prompt, all. A template that leaves out the
reasoning of earlier turns, or writes a call in another way than the model did, changes the history: then more is
prefilled than is new, and ``--explain`` prints where.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from mlx_sidecar.host import Host

from .measure import Row, machine, table

MODEL = "pocket"
PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Basel"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "forecast", "description": "Weather.", "parameters": PLACE}}]

Frame = dict[str, Any]


class Way(NamedTuple):
    """A kind of chat."""

    name: str
    thinks: bool
    calls: bool


WAYS = (
    Way("text alone", thinks=False, calls=False),
    Way("with reasoning", thinks=True, calls=False),
    Way("with calls", thinks=False, calls=True),
    Way("with reasoning and calls", thinks=True, calls=True),
)


class Chat:
    """One chat as a host has it that sends all messages each time, and counts of its prompts' tokens."""

    def __init__(self, host: Host, way: Way) -> None:
        self.prompted = self.prefilled = self.new = 0
        self.because: Counter[str] = Counter()
        self.summaries: list[str] = []
        self._host, self._way = host, way
        self._messages: list[Frame] = []

    def turn(self, number: int) -> None:
        self._ask({"role": "user", "content": f"Question {number}: how is the weather, and why is it so?"})
        if self._way.calls:
            answer = self._messages[-1]
            results = [
                {"role": "tool", "tool_call_id": call["id"], "content": f"Rain, {number} degrees."}
                for call in answer["tool_calls"]
            ]
            self._ask(*results)

    def _ask(self, *messages: Frame) -> None:
        new = self._behind_an_answer(messages) if self._messages else None
        self._messages += messages
        asked = {**self._asked(), "max_tokens": 60, "explain_cache": True, "temperature": 0.7, "seed": self.prompted}
        if self._way.thinks:
            asked["reasoning_budget"] = 16
        if self._way.calls and messages[0]["role"] == "user":
            asked["tool_choice"] = "required"
        result = self._host.call("generate", asked)
        usage = result["usage"]
        self.prompted += usage["prompt_tokens"]
        self.prefilled += usage["prompt_tokens"] - usage["cached_tokens"]
        self.new += usage["prompt_tokens"] if new is None else new
        self._explain(result["cache"])
        self._messages.append(
            {
                "role": "assistant",
                "content": result["text"],
                **({"reasoning_content": result["reasoning"]} if "reasoning" in result else {}),
                **({"tool_calls": result["tool_calls"]} if "tool_calls" in result else {}),
            }
        )

    def _asked(self) -> Frame:
        tools = {"tools": TOOLS} if self._way.calls else {}
        arguments = {"template_args": {"enable_thinking": True}} if self._way.thinks else {}
        return {"model": MODEL, "messages": self._messages, **arguments, **tools}

    def _behind_an_answer(self, messages: Sequence[Frame]) -> int:
        """The tokens that the template writes behind the text of an answer, for ``messages`` and to open the next."""
        answer = {"role": "assistant", "content": "x"}
        asked = {**self._asked(), "messages": [answer, *messages], "tools": None}
        whole = self._host.call("render", asked)
        said, _, _ = whole["text"].partition("x")
        return len(whole["tokens"]) - int(self._host.call("tokenize", {"model": MODEL, "text": said + "x"})["count"])

    def _explain(self, told: Frame) -> None:
        self.because[told["because"]] += 1
        if told["because"] not in ("new_text", "all_known", "nothing_known"):
            self.summaries.append(
                f"{told['summary']}\n    here  {told['text_here']!r}\n    known {told['text_known']!r}"
            )


def run(turns: int, *, explains: bool) -> list[Row]:
    rows = []
    for way in WAYS:
        with Host() as host:
            chat = Chat(host, way)
            for number in range(turns):
                chat.turn(number)
        figure = f"{chat.prefilled / chat.new:.2f} ({chat.prefilled} prefilled, {chat.new} new, {chat.prompted} in all)"
        rows.append(Row(f"{turns} turns, messages, {way.name}", f"{figure}; {json.dumps(dict(chat.because))}"))
        if explains and chat.summaries:
            print(f"{way.name}: {len(chat.summaries)} prompts left the known text, the last one so:")
            print(f"    {chat.summaries[-1]}\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Prefilled tokens for each new token of chats with tools.")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--explain", action="store_true", help="print where prompts left the known text")
    given = parser.parse_args()
    print(machine())
    print(table(run(given.turns, explains=given.explain)))


if __name__ == "__main__":
    main()
