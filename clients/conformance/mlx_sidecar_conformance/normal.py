"""Replaces the parts of a recorded session that differ from run to run, so that every run gives the same text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Line = dict[str, Any]

ALWAYS = {"process_id": 1000, "pid": 2000, "instance": "0123456789abcdef0123456789abcdef", "version": "1.0.0"}


def normal(lines: list[Line]) -> Iterator[Line]:
    """The lines with fixed process ids and times, and with each delta split into deltas of one token."""
    deltas = Deltas()
    is_ready = False
    for line in lines:
        frame = steady(line["frame"])
        if line["from"] == "host" or isinstance(frame, list):
            yield _line(line, frame)
            continue
        if frame.get("method") == "engine/state" and not is_ready:
            is_ready = frame["params"]["state"] == "ready"
            if not is_ready:
                continue  # a host gets this only if it sends initialize early enough
        if "capabilities" in frame.get("result", {}):
            result = frame["result"]
            result["backend"] = "fake"  # missing if initialize came early
            result |= {later: result.pop(later) for later in ("capabilities", "limits")}
        for part in deltas.of(frame):
            yield _line(line, part)


def _line(line: Line, frame: Any) -> Line:
    """``line`` with ``frame``, and with its bytes if the session shows them and they are the same in every run."""
    is_delta = isinstance(frame, dict) and frame.get("method") == "stream/delta"
    raw = {"raw": line["raw"]} if "raw" in line and frame == line["frame"] and not is_delta else {}
    return {"from": line["from"], "frame": frame, **raw}


def steady(value: Any, name: str = "") -> Any:
    """``value`` without times, process ids and versions."""
    if isinstance(value, dict):
        return {key: steady(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [steady(part) for part in value]
    if name in ALWAYS:
        return ALWAYS[name]
    return 0.0 if name.endswith("_s") and isinstance(value, int | float) and name != "deadline_s" else value


class Deltas:
    """Splits a delta of several tokens into one for each; in the sessions' scripts a token is a character."""

    def __init__(self) -> None:
        self._sent: dict[Any, int] = {}
        self._numbers: dict[tuple[Any, int], int] = {}
        self._ended: set[Any] = set()

    def of(self, frame: Any) -> Iterator[Any]:
        """The frames in place of ``frame``."""
        params = frame.get("params", {})
        if frame.get("method") == "stream/delta":
            yield from ({**frame, "params": part} for part in self._split(params))
            return
        for part in (params, frame.get("result", {})):
            if "last_seq" in part:
                part["last_seq"] = self._numbers[part["stream"], part["last_seq"]]
            if "finish_reason" in part and "stream" in part:
                self._ended.add(part["stream"])
        yield frame

    def _split(self, params: Any) -> Iterator[Any]:
        stream, tokens, text = params["stream"], params["tokens"], params["text"]
        whole = stream in self._ended or len(tokens) != len(text)  # the answer to subscribe is one delta
        for at in range(1 if whole else len(tokens)):
            part = {} if whole else {"offset": params["offset"] + at, "text": text[at], "tokens": tokens[at : at + 1]}
            number = self._sent.get(stream, 0)
            self._sent[stream] = number + 1
            self._numbers[stream, params["seq"]] = number
            yield {**params, **part, "seq": number}
