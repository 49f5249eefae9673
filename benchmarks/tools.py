"""Tool calls: whether calls of every format are read back as they were, and what reading costs.

    python -m benchmarks.tools [--only roundtrip,cost] [--data FOLDER]

roundtrip  the possible answers of BFCL v4 written in every format and read back by the parser, in pieces of three
           characters: equal calls, types included. Of several values that an answer may have, the first one
cost       nanoseconds of a processor a token for each kind of answer, against an answer that is not parsed
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema

from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.parser import OutputParser, PlainText
from tests.support.parsed import THINK, formats, parsed
from tests.support.tool_texts import RENDERERS, Call, format_name, reasoning

from .forms import SETS, as_json_schema, bfcl
from .measure import machine

PIECE = 3  # characters
TOKEN = re.compile(r"\s*\S{1,5}|\s+")  # about as tokenizers cut English text
TOKENS = 20_000
ROUNDS = 7
KINDS = ("hermes", "mistral_v13", "qwen3_coder", "glm", "lfm2", "gemma4", "harmony")


TOOLS = [
    {
        "name": "f",
        "parameters": {
            "properties": {"text": {"type": "string"}, "numbers": {"type": "array"}, "flag": {"type": "boolean"}}
        },
    }
]


class Case(NamedTuple):
    """A question of BFCL: its tools, and the calls that answer it."""

    tools: list[dict[str, Any]]
    calls: list[Call]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="roundtrip,cost", help="parts, separated by commas")
    parser.add_argument("--data", type=Path, help="the folder with BFCL_v4_*.json, downloaded if there is none")
    options = parser.parse_args()
    parts = options.only.split(",")
    if "roundtrip" in parts:
        with bfcl(options.data) as data:
            roundtrip(list(cases(data)))
    if "cost" in parts:
        print(machine())
        cost()


def cases(data: Path) -> Iterator[Case]:
    """The questions whose answers are known."""
    for name in SETS:
        lines = (data / f"BFCL_v4_{name}.json").read_text(encoding="utf-8").splitlines()
        answers = (data / "possible_answer" / f"BFCL_v4_{name}.json").read_text(encoding="utf-8").splitlines()
        known = {answer["id"]: answer["ground_truth"] for answer in map(json.loads, answers)}
        for question in map(json.loads, lines):
            tools = [
                {"type": "function", "function": {**function, "parameters": as_json_schema(function["parameters"])}}
                for function in question["function"]
            ]
            yield Case(tools, [(name, _first(of)) for call in known[question["id"]] for name, of in call.items()])


def _first(allowed: dict[str, list[Any]]) -> dict[str, Any]:
    """One value for each argument; an argument whose first value is empty text may be left out, and is."""
    return {name: _one(values[0]) for name, values in allowed.items() if values and values[0] != ""}


def _one(value: Any) -> Any:
    """``value``, in whose objects every member has a list of its values."""
    if isinstance(value, list):
        return [_one(part) for part in value]
    if isinstance(value, dict):
        return _first({name: of if isinstance(of, list) else [of] for name, of in value.items()})
    return value


def fits(case: Case) -> bool:
    """Whether the answers are of the types that the tools ask for."""
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in case.tools}
    for name, given in case.calls:
        properties = schemas.get(name, {}).get("properties", {})
        for key, value in given.items():
            types = {"type": properties.get(key, {}).get("type", "null")}
            if not jsonschema.Draft202012Validator(types).is_valid(value):
                return False
    return True


def roundtrip(of: list[Case]) -> None:
    """Print how many answers come back equal in each format."""
    fitting = [case for case in of if case.calls and fits(case)]
    print(f"{len(fitting)} answers, {sum(len(case.calls) for case in fitting)} calls;", end=" ")
    print(f"{len(of) - len(fitting)} others have a value of another type than their tool asks for, or no call")
    for renderer in RENDERERS:
        equal, failed = 0, None
        for case in fitting:
            answer = RENDERERS[renderer](case.calls)
            pieces = [answer[at : at + PIECE] for at in range(0, len(answer), PIECE)]
            told = parsed(formats(format_name(renderer)), case.tools, pieces)
            same = repr(told.calls) == repr(case.calls) and told.text == "" and told.outcome.error is None
            equal += same
            failed = failed if same or failed else (answer, told)
        print(f"{renderer:24} {equal:5} of {len(fitting)} equal")
        if failed is not None:
            print("   ", *failed)


def cost() -> None:
    """Print the nanoseconds a token that each kind of answer costs, in interleaved rounds."""
    text = "The quick brown fox jumps over the lazy dog, and then it rests. "
    call: Call = ("f", {"text": text * 4, "numbers": list(range(20)), "flag": True})
    kinds = {kind: (formats(kind), RENDERERS[kind]([call] * 2)) for kind in KINDS}
    kinds["text"] = formats("hermes"), text * 8
    kinds["reasoning"] = formats("hermes", THINK), reasoning("hermes", text * 8)
    times: dict[str, list[float]] = {kind: [] for kind in ("not parsed", *kinds)}
    for _ in range(ROUNDS):
        times["not parsed"].append(_a_token(PlainText, text * 8))
        for kind, (of, answer) in kinds.items():
            times[kind].append(_a_token(partial(ChatParser, of, TOOLS), answer))
    for kind, took in times.items():
        print(f"{kind:24} {min(took) * 1e9:7.0f} ns a token")


def _a_token(parser: Callable[[], OutputParser], answer: str) -> float:
    """Seconds of a processor a token that a parser takes for ``answer``, again and again."""
    pieces = TOKEN.findall(answer)
    times = TOKENS // len(pieces)

    began = time.process_time()
    for _ in range(times):
        one = parser()
        for piece in pieces:
            one.push(piece, [0])
        one.finish(cut=False)
    return (time.process_time() - began) / (times * len(pieces))


if __name__ == "__main__":
    main()
