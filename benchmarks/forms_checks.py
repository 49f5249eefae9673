"""Counts answers that were held to schemas, and checks those that are said to be whole."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from mlx_sidecar.link.forms import JsonForm
from mlx_sidecar.text.forms.grammars import grammar_of
from mlx_sidecar_protocol.errors import InvalidParams

from .measure import Row, table

Frame = dict[str, Any]


def compiles(schema: Frame) -> bool:
    """Whether the schema is one that is not refused."""
    try:
        grammar_of(JsonForm(json.dumps(schema).encode(), ["schema"], fixed=True))
    except InvalidParams:
        return False
    return True


@dataclass
class Tally:
    """Answers by how they ended, and what was wrong with any."""

    endings: Counter[str] = field(default_factory=Counter)
    disturbed: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    forced: int = 0
    masked: int = 0
    valid: int = 0
    spaces: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, schemas: list[Frame], answers: list[Frame], disturbance: str) -> None:
        """Check the answers of one batch, which ``disturbance`` befell."""
        self.disturbed[disturbance or "nothing"] += len(answers)
        for schema, answer in zip(schemas, answers, strict=True):
            told = answer["response_format"]
            self.endings["complete" if told["complete"] else answer["finish_reason"]] += 1
            self.tokens += answer["usage"]["completion_tokens"]
            self.forced += told["forced_tokens"]
            self.masked += told["masked_steps"]
            self.spaces = max([self.spaces, *(len(run) for run in re.findall(r"\s+", answer["text"]))])
            if told["complete"]:
                self._check(schema, answer["text"])
            elif answer["finish_reason"] == "stop":
                self.wrong.append(f"stopped and not complete: {answer['text']!r}")

    def _check(self, schema: Frame, text: str) -> None:
        try:
            error = next(iter(Draft202012Validator(schema).iter_errors(json.loads(text))), None)
        except json.JSONDecodeError as broken:
            self.wrong.append(f"{broken}: {text!r}")
            return
        if error is None:
            self.valid += 1
        else:
            self.wrong.append(f"{error.message[:200]}: {text!r}")

    def summary(self) -> str:
        """Return the counts so far in a line."""
        return f"{self.endings.total()} answers, {dict(self.endings)}, {self.valid} valid, {len(self.wrong)} wrong"


def print_tally(tally: Tally) -> None:
    """Print the counts as a table, and what was wrong."""
    complete = tally.endings["complete"]
    disturbed = ", ".join(f"{name} {count}" for name, count in tally.disturbed.items())
    rows = [
        Row("answers", str(tally.endings.total())),
        Row("in a batch that met", disturbed),
        Row("`complete`, and valid", f"{complete}, {tally.valid}"),
        Row("cut off", ", ".join(f"{name} {count}" for name, count in tally.endings.items() if name != "complete")),
        Row("longest run of white space", str(tally.spaces)),
        Row("tokens, forced, chosen again", f"{tally.tokens}, {tally.forced}, {tally.masked}"),
    ]
    print(table(rows))
    for line in tally.wrong:
        print("wrong:", line)
