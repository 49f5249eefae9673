"""Frames from a seed: well-formed requests, and damaged ones.

None asks the sidecar to leave, or the fake engine to die, because that would be no fault of a frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Literal

from .damage import DAMAGES, LIMIT_BYTES

Json = Any
Framing = Literal["lines", "headers"]

_CASES = Path(__file__).parents[2] / "tests" / "conformance" / "cases.jsonl"
# Ends the session, or makes the fake engine die, hang, fail or take its time.
_KEPT_OUT = (b"exit", b"shutdown", b"crash", b"poison", b"hang", b"raise", b"rows", b"delay", b"prefill_", b"load_")
_MODELS = ["fake", "fake?tokens=3", "fake?echo=1", "fake?tokens=7&wide=1", "fake?text=hi", "fake?fail_load=x", "pocket"]
_ROLES = ["user", "assistant", "system", "tool", "nobody"]
_TEXTS = ["", "x", "Hello", "äöü 日本 🙂", "\x00\x1b", "a" * 300, "<|im_end|>", '"\\/', "{{ 7 * 7 }}", "\u2028\ufeff"]
_ODD: list[Json] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 5e-324),
    *("", "x", "0", "null", "\ud800", "\udfff x", "a\x00b", "ß" * 40, [], [None], [[]], {}, {"": None}, {"a": [1, {}]}),
    *([0] * 50, ["x"] * 20, {"id": 1, "method": "ping"}, [{"type": "text", "text": "x"}], [{"role": "user"}]),
]


def conformance() -> list[bytes]:
    """All single messages of the conformance cases."""
    steps = [step for line in _CASES.read_bytes().splitlines() for step in json.loads(line).get("send", [])]
    texts = [json.dumps(step["j"]).encode() for step in steps if "j" in step]
    texts += [step["t"].encode() for step in steps if isinstance(step.get("t"), str)]
    return [text for text in texts if len(text) < LIMIT_BYTES and not _is_kept_out(text)]


def _is_kept_out(frame: bytes) -> bool:
    return any(word in frame for word in _KEPT_OUT)


class Frames:
    """An endless supply of frames. ``number`` counts well-formed requests; no two have the same id."""

    def __init__(self, seed: int) -> None:
        self._pick = Random(seed)
        self._corpus = conformance()
        self.number = 0
        self._params: dict[str, Callable[[], Json]] = {
            "ping": dict,
            "generate": self._generate,
            "load": lambda: {"model": self._model(), "pin": self._pick.random() < 0.1, "ttl_s": 5, "progress": 1},
            "unload": lambda: {"model": self._model(), "force": self._pick.random() < 0.5},
            "models": dict,
            "tokenize": lambda: {"model": "fake", "text": self._text(), "add_special": True, "pieces": True},
            "detokenize": lambda: {"model": "fake", "tokens": self._tokens()},
            "render": lambda: {"model": "fake", "messages": self._messages(), "add_generation_prompt": True},
            "stream/cancel": lambda: {"stream": self._small()},
            "stream/subscribe": lambda: {"stream": self._small(), "after_seq": self._small() - 1},
            "stream/ack": lambda: {"stream": self._small(), "seq": self._small()},
            "stats": dict,
            "rpc.discover": dict,
            "initialize": lambda: {"protocol_version": 1, "client": {"name": "x", "version": "1"}, "process_id": 1},
            "initialized": dict,
            "$/cancelRequest": lambda: {"id": self._id()},
            "no/such": lambda: {"x": self._small()},
        }
        self._usual = ["ping"] * 12 + ["tokenize", "detokenize", "render", "generate", "stats", "load", "models"]

    def request(self) -> tuple[str, bytes]:
        """A well-formed request: its id and its text."""
        self.number += 1
        id_ = f"well-formed {self.number}"
        method = self._pick.choice(self._usual)
        params = self._params[method]()
        if method in ("generate", "load"):  # a model that no other frame unloads
            params = {"model": "steady", **({"prompt": "x", "max_tokens": 3} if method == "generate" else {})}
        return id_, json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}).encode()

    def batch(self) -> tuple[str, bytes]:
        """A well-formed request among elements that are not, in one array."""
        id_, text = self.request()
        others = [json.dumps(self._pick.choice([self._message(), self._odd()])).encode() for _ in range(3)]
        others = [other for other in others if not _is_kept_out(other)]
        # An unpaired surrogate anywhere spoils a text, not only its element.
        others = [other for other in others if b"\\ud" not in other]
        at = self._pick.randint(0, len(others))
        return id_, b"[" + b",".join([*others[:at], text, *others[at:]]) + b"]"

    def fuzzed(self) -> bytes:
        """Return a frame that may be anything."""
        while True:
            frame = self._fuzzed()
            if not _is_kept_out(frame):
                return frame

    def _fuzzed(self) -> bytes:
        pick = self._pick
        if pick.random() < 0.3:
            frame = pick.choice(self._corpus)
        else:
            message = self._message()
            for _ in range(pick.choice((0, 1, 1, 2, 3))):
                if pick.random() < 0.7:
                    message = {**message, "params": self._altered(message["params"])}
                else:
                    message = self._altered(message)
                    break
            if pick.random() < 0.05:
                message = [message, *(self._message() for _ in range(pick.randint(0, 6)))]
            frame = json.dumps(message, ensure_ascii=pick.random() < 0.5).encode(errors="surrogatepass")
        for _ in range(pick.choice((0, 0, 0, 0, 1, 2))):
            frame = pick.choice(DAMAGES)(pick, frame)
        return frame

    def _message(self) -> Json:
        method = self._pick.choice(list(self._params))
        message = {"jsonrpc": "2.0", "method": method, "params": self._params[method]()}
        if self._pick.random() < 0.8:
            message["id"] = self._id()
        return message

    def _altered(self, value: Json) -> Json:
        """Return ``value`` with one thing in it replaced."""
        pick = self._pick
        if isinstance(value, dict) and value and pick.random() < 0.9:
            name = pick.choice(list(value))
            filter_kind = pick.random()
            if filter_kind < 0.15:
                return {key: inner for key, inner in value.items() if key != name}
            if filter_kind < 0.3:
                return {
                    **value,
                    pick.choice(["x", "", "id", "result", "error", "model", "stop", "\udc80"]): self._odd(),
                }
            return {**value, name: self._altered(value[name])}
        if isinstance(value, list) and value and pick.random() < 0.8:
            at = pick.randrange(len(value))
            return [*value[:at], self._altered(value[at]), *value[at + pick.randint(0, 1) :]]
        return self._odd()

    def _odd(self) -> Json:
        return self._pick.choice(_ODD)

    def _generate(self) -> Json:
        pick = self._pick
        params: dict[str, Json] = {"model": self._model(), "max_tokens": pick.randint(1, 20)}
        filter_kind = pick.choice(("prompt", "tokens", "messages"))
        params[filter_kind] = {"prompt": self._text, "tokens": self._tokens, "messages": self._messages}[filter_kind]()
        extras: dict[str, Json] = {
            "stream": self._small(),
            "temperature": pick.random() * 2,
            "top_p": pick.random(),
            "top_k": self._small(),
            "stop": [self._text()],
            "stop_tokens": [101],
            "seed": pick.getrandbits(40),
            "logprobs": pick.randint(0, 5),
            "logit_bias": {"3": 1.5},
            "priority": pick.choice(["low", "high"]),
            "min_interval_ms": 1,
            "echo_text": False,
        }
        params |= {name: extras[name] for name in pick.sample(list(extras), pick.randint(0, 4))}
        if pick.random() < 0.1:  # a stream without acks must end some time
            params |= {"stream": self._small(), "window": 1, "deadline_s": 0.2}
        return params

    def _model(self) -> str:
        return self._pick.choice(_MODELS)

    def _text(self) -> str:
        return self._pick.choice(_TEXTS)

    def _id(self) -> int:
        return self._pick.randrange(500)  # so few that some are open when they come again

    def _small(self) -> int:
        return self._pick.randrange(64)

    def _tokens(self) -> list[int]:
        return [self._pick.randrange(257) for _ in range(self._pick.randint(0, 12))]

    def _messages(self) -> list[Json]:
        return [{"role": self._pick.choice(_ROLES), "content": self._text()} for _ in range(self._pick.randint(1, 3))]


def request(id_: str, method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}).encode()


def framed(framing: Framing, body: bytes, pick: Random | None = None) -> bytes:
    """``body`` as it goes over the wire; with ``pick`` in any form that is allowed."""
    if framing == "lines":
        return body + (b"\n" if pick is None else pick.choice((b"\n", b"\n", b"\r\n", b"\n\n \n")))
    usual = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if pick is None or pick.random() < 0.5:
        return usual
    name = pick.choice((b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Content-Length "))
    length = name + pick.choice((b":", b": ", b":\t  ")) + pick.choice((b"%d", b"00%d", b"%d  ")) % len(body)
    lines = [
        length,
        *pick.sample((b"Content-Type: x/y; charset=utf-8", b"X-Other", b"a: b: c", length), pick.randint(0, 3)),
    ]
    pick.shuffle(lines)
    end = pick.choice((b"\r\n", b"\n"))
    return pick.choice((b"", b"\r\n", b"\n \n")) + end.join(lines) + end + end + body
