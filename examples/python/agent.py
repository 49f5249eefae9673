"""An agent that reads a file, computes and answers: ``python agent.py [MODEL]``.

The model says which function to call, with which arguments, and what the answer is; the functions do the work. The
embedded model, pocket, knows the form of a call and little more: it would call a wrong one, or tell a wrong figure. So
it is told which function comes next, types leave it nothing to get wrong, and the form of its answer has the figure.
"""

import csv
import sys
from pathlib import Path
from typing import Literal

from mlx_sidecar_client import Event, SyncSidecar, TextDelta, Tool, ToolChoice, ToolOutcome, run_tools_sync

FOLDER = Path(__file__).parents[1] / "data"
File = Literal["prices.csv"]
Column = Literal["price"]


def read_file(name: File) -> str:
    """Read a file."""
    return (FOLDER / name).read_text()


def add_up(name: File, column: Column) -> float:
    """Add up a column of a file."""
    with (FOLDER / name).open(newline="") as file:
        return round(sum(float(row[column]) for row in csv.DictReader(file)), 2)


def show(event: Event | ToolOutcome) -> None:
    match event:
        case ToolOutcome(call, content):
            sys.stdout.write(f"{call.name}({call.arguments}):\n{content.strip()}\n\n")
        case TextDelta(text):
            sys.stdout.write(text)


model = sys.argv[1] if len(sys.argv) > 1 else "pocket"
messages = [{"role": "user", "content": "What do the things in prices.csv cost together?"}]
tools = [Tool(read_file, strict=True), Tool(add_up, strict=True)]  # strict: calls keep to the types
in_order: list[ToolChoice] = [{"name": "read_file"}, {"name": "add_up"}]

with SyncSidecar.spawn() as sidecar:
    if model == "pocket":
        run = run_tools_sync(
            sidecar, model, messages=messages, tools=tools, on_event=show, tool_choice=in_order, max_rounds=2
        )
        total = run.outcomes[-1].content
        form = {"type": "choice", "choices": [f"Together they cost {total}.", f"They cost {total} together."]}
        answer = sidecar.generate(model, messages=run.messages, response_format=form).wait()
        sys.stdout.write(f"{answer.text}\n")
    else:
        run = run_tools_sync(sidecar, model, messages=messages, tools=tools, on_event=show)
        sys.stdout.write("\n" if run.ended == "answered" else f"\n(no answer: {run.ended})\n")
