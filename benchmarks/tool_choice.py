"""Which answers of a real model are whole and valid tool calls, where a call is required and where it is free.

    python -m benchmarks.tool_choice [--prompts N] [--bounded] [--only required,named,free] [--data FOLDER]

SmolLM2-135M at 4 bits is asked the questions of BFCL (``benchmarks.forms``). Its chat template knows no tools, so they
stand in the system message and ``tool_format`` is ``hermes``. Each question is asked three times: with ``tool_choice``
``required``, with one tool by its name, and freely. The arguments are checked by jsonschema. ``--bounded`` gives texts,
lists, numbers and objects a bound where their schema has none, because such a model writes some of them without end.

The distance of a call's first fragment is counted in the model's tokens: those between the one that has the first
character of its arguments and the one with which the parser tells it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator

from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.table import OutputFormats, tool_format

from .forms import as_json_schema, bfcl
from .forms_checks import compiles
from .forms_host import FormsHost
from .forms_run import MODEL
from .measure import Row, machine, table

SETS = ("simple_python", "multiple", "live_simple", "live_multiple")
Frame = dict[str, Any]

BATCH = 8
TOKENS, FREE_TOKENS = 1000, 256  # free answers of such a model often have no end
LONGEST_TOOLS = 2500  # characters of their descriptions: more takes such a model long to read
_SYSTEM = (
    "You call functions. These are the functions, as JSON:\n{}\nAnswer with calls alone, each as\n"
    '<tool_call>\n{{"name": "NAME", "arguments": {{ARGUMENTS}}}}\n</tool_call>'
)
_BOUNDS: dict[str, Frame] = {
    "string": {"maxLength": 60},
    "array": {"maxItems": 4},
    "object": {"maxProperties": 4},
    "integer": {"minimum": -(10**6), "maximum": 10**6},
}
_ARGUMENTS = re.compile(r'"arguments": ')


class Question(NamedTuple):
    """A question, and the functions that may answer it."""

    text: str
    tools: list[Frame]

    def params(self, choice: Any) -> Frame:
        """Return the parameters of ``generate`` with ``tool_choice``."""
        system = _SYSTEM.format(json.dumps([tool["function"] for tool in self.tools]))
        messages = [{"role": "system", "content": system}, {"role": "user", "content": self.text}]
        asked = {"model": MODEL, "messages": messages, "tools": self.tools, "tool_format": "hermes", "logprobs": 0}
        return {
            **asked,
            "tool_choice": choice,
            "parallel_tool_calls": choice == "auto",
            "max_tokens": TOKENS,
            "seed": 1,
        }


@dataclass
class Tally:
    """Answers to one kind of request."""

    endings: Counter[str] = field(default_factory=Counter)
    valid: int = 0
    wrong: list[str] = field(default_factory=list)
    distances: list[int] = field(default_factory=list)

    def add(self, question: Question, answer: Frame, name: str | None) -> None:
        """Check an answer, in which the tool called ``name`` was to be called, any if that is None."""
        self.endings[answer["finish_reason"]] += 1
        calls = answer.get("tool_calls", [])
        why = next((why for call in calls if (why := fault(question, call, name))), None if calls else "no call")
        if why is None and not answer["text"] and "incomplete_tool_calls" not in answer:
            self.valid += 1
        else:
            self.wrong.append(f"{answer['finish_reason']}: {why or 'text, or an incomplete call'}: {answer!r:.300}")
        self.distances += distances(question, answer) if calls else []


def fault(question: Question, call: Frame, name: str | None) -> str | None:
    """Return why ``call`` is not valid, None if it is."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in question.tools}
    if call["name"] not in ([name] if name else schemas):
        return f"the tool {call['name']}"
    errors = Draft202012Validator(schemas[call["name"]]).iter_errors(json.loads(call["arguments"]))
    return next((error.message[:200] for error in errors), None)


def distances(question: Question, answer: Frame) -> Iterator[int]:
    """Yield, for the first call, the tokens between the beginning of its arguments and its first fragment."""
    texts = [each["text"] for each in answer["logprobs"]]
    found = _ARGUMENTS.search("".join(texts))
    if found is None or "\ufffd" in "".join(texts)[: found.end()]:
        return
    parser = ChatParser(OutputFormats(tool_format("hermes"), None), question.tools)
    read, begun = 0, None
    for at, text in enumerate(texts):
        read += len(text)
        begun = at if begun is None and read > found.end() else begun
        if any(segment.head is not None for segment in parser.push(text, [0])):
            yield at - (at if begun is None else begun)
            return


def bounded(schema: Any) -> Any:
    """Return ``schema`` with a bound wherever a value has none."""
    if isinstance(schema, list):
        return [bounded(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    types = schema.get("type")
    bounds = _BOUNDS.get(types, {}) if isinstance(types, str) and not {"enum", "const"} & schema.keys() else {}
    if types == "object" and "properties" in schema:
        bounds = {"additionalProperties": False}
    return {**bounds, **{key: bounded(part) for key, part in schema.items()}}


def questions(data: Path, bound: Callable[[Any], Any]) -> list[Question]:
    """Return the questions of BFCL all of whose functions can be called, in an order of no meaning."""
    found: list[Question] = []
    for name in SETS:
        for line in (data / f"BFCL_v4_{name}.json").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            turns = [turn["content"] for turn in entry["question"][0] if turn["role"] == "user"]
            tools = [_tool(function, bound) for function in entry["function"]]
            if (
                turns
                and len(json.dumps(tools)) <= LONGEST_TOOLS
                and all(compiles(tool["function"]["parameters"]) for tool in tools)
            ):
                found.append(Question(turns[0], tools))
    random.Random(1).shuffle(found)
    return found


def _tool(function: Frame, bound: Callable[[Any], Any]) -> Frame:
    named = {"name": function["name"], "description": function["description"]}
    return {"type": "function", "function": {**named, "parameters": bound(as_json_schema(function["parameters"]))}}


async def run(asked: list[Question], ways: list[str]) -> dict[str, Tally]:
    """Ask all questions in each way, some at once."""
    tallies = {name: Tally() for name in ways}
    async with FormsHost() as host:
        await host.call("load", {"model": MODEL})
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            for way, tally in tallies.items():
                names = [question.tools[-1]["function"]["name"] if way == "named" else None for question in batch]
                choices = [{"name": name} if name else "auto" if way == "free" else way for name in names]
                params = [question.params(choice) for question, choice in zip(batch, choices, strict=True)]
                for question, answer, name in zip(batch, await host.together(params, ""), names, strict=True):
                    tally.add(question, answer, name)
            told = ", ".join(f"{way} {tally.valid}" for way, tally in tallies.items())
            print(f"{start + len(batch)} questions; whole and valid: {told}", flush=True)
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--bounded", action="store_true", help="give every value a bound")
    parser.add_argument("--only", default="required,named,free", help="ways to ask, joined by commas")
    parser.add_argument("--data", type=Path, help="the folder with BFCL_v4_*.json")
    options = parser.parse_args()
    print(machine())
    with bfcl(options.data) as data:
        asked = questions(data, bounded if options.bounded else lambda schema: schema)[: options.prompts]
    rows: list[Row] = []
    for way, tally in asyncio.run(run(asked, options.only.split(","))).items():
        count, goal = tally.endings.total(), "" if way == "free" else "100 %"
        rows.append(Row(f"{way}: whole and valid calls", f"{tally.valid} of {count}, {tally.valid / count:.1%}", goal))
        rows.append(Row(f"{way}: endings", ", ".join(f"{name} {many}" for name, many in tally.endings.items())))
        if tally.distances:
            worst = f"most {max(tally.distances)}, in {len(tally.distances)} calls"
            rows.append(Row(f"{way}: tokens from the first character of arguments to the first fragment", worst, "≤ 2"))
        for line in tally.wrong[: 20 if way == "free" else None]:
            print(f"{way}: wrong:", line)
    print(table(rows))


if __name__ == "__main__":
    main()
