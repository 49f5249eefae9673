"""Checks an adapter's answers and the frames on the wire against the expectations of a case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .matching import ABSENT, fits

Case = dict[str, Any]
Entry = dict[str, Any]


class LeftOut(Exception):
    """The adapter answered ``unsupported``: its client lacks what the case tests."""


def complaints(case: Case, answers: list[Any], transcript: list[Entry]) -> Iterator[str]:
    """Differences from the case's expectations, in words.

    Raises:
        LeftOut: An answer is ``unsupported``, and the case may be left out.
    """
    operations = case["operations"]
    for operation, expected, answer in zip(operations, case["expect"], answers, strict=False):
        if isinstance(answer, dict) and "unsupported" in answer and case["level"] != "must":
            raise LeftOut(str(answer["unsupported"]))
        if not fits(expected, answer):
            yield f"asked     {short(operation)}\n      expected  {short(expected)}\n      got       {short(answer)}"
        yield from incoherences(operation, answer)
    if len(answers) != len(operations):
        too_many = [f"; the first too many: {short(answer)}" for answer in answers[len(operations) :][:1]]
        yield f"{len(operations)} operations got {len(answers)} answers{''.join(too_many)}"
        return
    yield from faults_on_the_wire(case.get("wire", []), transcript)
    for operation, answer in zip(operations, answers, strict=True):
        if "stall_after" in operation and isinstance(answer, dict) and "result" in answer:
            yield from hurried_acks(operation, transcript)


def incoherences(operation: Any, answer: Any) -> Iterator[str]:
    """Contradictions within an answer, apart from the case's expectations."""
    if not isinstance(answer, dict):
        yield f"not an object: {short(answer)}"
        return
    for asked, answered in (("operations", "together"), ("meanwhile", "meanwhile")):
        if asked in operation and isinstance(answer.get(answered), list):
            for part, its_answer in zip(operation[asked], answer[answered], strict=False):
                yield from incoherences(part, its_answer)
    if operation["op"] == "together" or "unsupported" in answer:
        return
    if ("result" in answer) == ("error" in answer):
        yield f"neither a result nor an error, or both: {short(answer)}"
    elif operation["op"] == "generate":
        yield from _of_a_stream(operation, answer)


def _of_a_stream(operation: Any, answer: dict[str, Any]) -> Iterator[str]:
    text, tokens, deltas = (answer.get(name, ABSENT) for name in ("text", "tokens", "deltas"))
    if not (isinstance(text, str) and isinstance(tokens, list) and isinstance(deltas, int)):
        yield f"text, tokens and deltas belong into the answer, also into one with an error: {short(answer)}"
        return
    result = answer.get("result")
    wanted = operation.get("cancel_after")
    if wanted is not None:
        if deltas != wanted:
            yield f"left after {wanted} deltas, and {deltas} were taken"
        return
    if result is None:
        if "error" not in answer:
            yield "a generation that was not left has a result"
        return
    for name, joined in (("text", text), ("tokens", tokens), ("reasoning", answer.get("reasoning", ABSENT))):
        if isinstance(result, dict) and name in result and joined not in (result[name], ABSENT):
            yield f"the {name} of the deltas, {short(joined)}, are not those of the result, {short(result[name])}"
    if isinstance(result, dict) and "tool_calls" in answer:
        for call in result.get("tool_calls", []):
            if call not in answer["tool_calls"]:
                yield f"the calls of the deltas, {short(answer['tool_calls'])}, have none of the result, {short(call)}"


def faults_on_the_wire(wanted: list[dict[str, Any]], transcript: list[Entry]) -> Iterator[str]:
    """Malformed frames, ids used twice, and patterns of the case that did not pass in their order."""
    ids: set[str] = set()
    for entry in transcript:
        if "started" in entry:
            ids.clear()
        elif entry["from"] == "host":
            yield from _of_a_host_frame(entry, ids)
    passed = iter(transcript)
    for pattern in wanted:
        (source, frame), *_ = pattern.items()
        if not any(entry.get("from") == source and fits(frame, entry.get("frame")) for entry in passed):
            yield f"on the wire, no such frame from the {source} (after those before it): {short(frame)}"


def hurried_acks(operation: Any, transcript: list[Entry]) -> Iterator[str]:
    """Acknowledgements of deltas that a stalled reader of the stream had not taken."""
    stalled, *others = requests([operation, *operation["meanwhile"]], transcript)
    if not (stalled and all(others)) or "window" not in stalled["params"]:
        yield "the operations are not on the wire as they were asked for, the stream with a window"
        return
    for entry in transcript:
        frame: Any = entry.get("frame")
        if _is_answer(entry, others[-1]["id"]):
            return
        if _is_answer(entry, stalled["id"]):
            yield "the stream went on to its end while nobody took its deltas"
        ack = {"method": "stream/ack", "params": {"stream": stalled["params"]["stream"], "seq": {"$type": "int"}}}
        if fits(ack, frame) and frame["params"]["seq"] >= operation["stall_after"]:
            yield f"delta {frame['params']['seq']} was acknowledged when {operation['stall_after']} had been taken"


def requests(operations: list[Any], transcript: list[Entry]) -> list[Any]:
    """The request frame of each operation, in order; None for an operation without one."""
    frames = iter([entry.get("frame") for entry in transcript if entry.get("from") == "host"])
    found = []
    for operation in operations:
        pattern = {"method": operation.get("method", operation["op"]), "params": operation["params"]}
        found.append(next((frame for frame in frames if fits(pattern, frame)), None))
    return found


def _is_answer(entry: Entry, id_: Any) -> bool:
    return entry.get("from") == "sidecar" and fits({"id": id_, "method": {"$absent": 1}}, entry.get("frame"))


def _of_a_host_frame(entry: Entry, ids: set[str]) -> Iterator[str]:
    frame = entry.get("frame")
    if not isinstance(frame, dict) or frame.get("jsonrpc") != "2.0" or not isinstance(frame.get("method"), str):
        yield f"the client sent what is no request and no notification: {short(frame or entry)}"
    elif "id" in frame:
        id_ = json.dumps(frame["id"])
        if id_ in ids:
            yield f"the client used the id {id_} twice"
        ids.add(id_)


def expanded(value: Any) -> Any:
    """``value`` with ``{"$repeat": [text, times]}`` written out."""
    if isinstance(value, dict):
        if "$repeat" in value:
            text, times = value["$repeat"]
            return text * times
        return {name: expanded(part) for name, part in value.items()}
    return [expanded(part) for part in value] if isinstance(value, list) else value


def short(value: Any) -> str:
    """``value`` as JSON, with the middle left out if it is long."""
    text = "nothing" if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 600 else f"{text[:400]} … ({len(text)} characters) … {text[-150:]}"
