"""Replaces the parts of a recorded session that differ from run to run, so that every run gives the same text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Line = dict[str, Any]

_HANDLE = re.compile(r"\b(session|turn)_[0-9a-f]{24}\b")

ALWAYS = {"process_id": 1000, "pid": 2000, "instance": "0123456789abcdef0123456789abcdef", "version": "1.0.0"}


def normal(lines: list[Line]) -> Iterator[Line]:
    """The lines with fixed process ids, times and ids of calls, and with each delta split into deltas of one token.

    Deltas of a chat with tools are joined instead, to one for each run of a channel.
    """
    deltas, call_ids = Deltas(), CallIds()
    is_ready = False
    for line in lines:
        frame = call_ids.fixed(steady(line["frame"]))
        if line["from"] == "host" or isinstance(frame, list):
            deltas.asked(frame)
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


class CallIds:
    """Puts ids in the order of their coming in the place of random ones."""

    def __init__(self) -> None:
        self._fixed: dict[str, str] = {}

    def fixed(self, value: Any) -> Any:
        """``value`` with fixed ids of calls."""
        if isinstance(value, list):
            return [self.fixed(part) for part in value]
        if not isinstance(value, dict):
            return value
        known = {key: self.fixed(part) for key, part in value.items()}
        if {"id", "name"} <= known.keys() and ("arguments" in known or "text" in known):
            known["id"] = self._fixed.setdefault(known["id"], f"callid{len(self._fixed):03}")
        return known


class Handles:
    """The ids of sessions and turns, which a sidecar chooses, by the numbers of their coming: ``turn_1``."""

    def __init__(self) -> None:
        self._numbered: dict[str, str] = {}

    def heard(self, frame: Any) -> None:
        """Number the ids that are new in ``frame``."""
        for found in _HANDLE.finditer(json.dumps(frame)):
            count = sum(name.startswith(found[1]) for name in self._numbered.values())
            self._numbered.setdefault(found[0], f"{found[1]}_{count + 1}")

    def numbered(self, frame: Any) -> Any:
        """``frame`` with numbers."""
        return json.loads(_HANDLE.sub(lambda found: self._numbered[found[0]], json.dumps(frame)))

    def actual(self, text: str) -> str:
        """``text`` with the ids in place of their numbers."""
        for id_, name in self._numbered.items():
            text = text.replace(f'"{name}"', f'"{id_}"')
        return text


class Deltas:
    """Splits a delta of several tokens into one for each; in the sessions' scripts a token is a character.

    Some tokens of a chat with tools give no text, so its deltas are joined: all text of a channel up to the next one.
    """

    def __init__(self) -> None:
        self._sent: dict[Any, int] = {}
        self._numbers: dict[tuple[Any, int], int] = {}
        self._ended: set[Any] = set()
        self._joined: dict[Any, list[Any]] = {}  # of running chats with tools

    def asked(self, frame: Any) -> None:
        """Take notice of what the host asks."""
        params = frame.get("params", {}) if isinstance(frame, dict) else {}
        if "tools" in params and "stream" in params:
            self._joined[params["stream"]] = []

    def of(self, frame: Any) -> Iterator[Any]:
        """The frames in place of ``frame``."""
        params = frame.get("params", {})
        if frame.get("method") == "stream/delta":
            if (joined := self._joined.get(params["stream"])) is None:
                yield from ({**frame, "params": part} for part in self._split(params))
            else:
                joined.append(params)
            return
        for part in (params, frame.get("result", {})):
            if "finish_reason" in part and part.get("stream") in self._joined:
                runs = self._runs(self._joined.pop(part["stream"]))
                yield from ({"jsonrpc": "2.0", "method": "stream/delta", "params": run} for run in runs)
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
            yield self._numbered({**params, **part}, params["seq"])

    def _runs(self, deltas: list[Any]) -> Iterator[Any]:
        """One delta for each run of a channel, with the tokens up to the end of its text."""
        runs: list[Any] = []
        for delta in deltas:
            if runs and _channel(runs[-1]) == _channel(delta):
                _add(runs[-1], delta)
            else:
                runs.append({**delta, "tokens": []})
        tokens = [token for delta in deltas for token in delta["tokens"]]
        written, behind = bytes(tokens).decode(), 0
        for run in runs:
            begin, text = behind, _text(run)
            behind = len(tokens) if run is runs[-1] else written.index(text, begin) + len(text)
            run["tokens"] = tokens[begin:behind]
            yield self._numbered(run, run["seq"])
        for delta in deltas:
            self._numbers[delta["stream"], delta["seq"]] = self._sent[delta["stream"]] - 1

    def _numbered(self, delta: Any, seq: int) -> Any:
        stream = delta["stream"]
        number = self._sent.get(stream, 0)
        self._sent[stream] = number + 1
        self._numbers[stream, seq] = number
        return {**delta, "seq": number}


def _channel(delta: Any) -> str:
    if "tool_calls" in delta:
        return f"call {delta['tool_calls'][0]['index']}"
    return "reasoning" if "reasoning" in delta else "text"


def _text(delta: Any) -> str:
    return str(delta["tool_calls"][0]["arguments"] if "tool_calls" in delta else delta[_channel(delta)])


def _add(run: Any, more: Any) -> None:
    if "tool_calls" in run:
        run["tool_calls"][0]["arguments"] += _text(more)
    else:
        run[_channel(run)] += _text(more)
