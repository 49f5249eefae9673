"""Frames from a seed: well-formed requests, and what is left of such after something happened to them.

Nothing here asks the sidecar to leave, or the fake engine to die: that would be no fault of a frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Json = Any
LIMIT_BYTES = 64 * 1024  # of a frame: the sidecar is started with it

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
# No JSON can say these; they are written into the text.
_ODD_NUMBERS = [b"NaN", b"-Infinity", b"1e999", b"01", b"+1", b".5", b"1.", b"0x10", b"1" * 400, b"-", b"1e", b"1_0"]


def conformance() -> list[bytes]:
    """All single messages of the conformance cases."""
    steps = [step for line in _CASES.read_bytes().splitlines() for step in json.loads(line).get("send", [])]
    texts = [json.dumps(step["j"]).encode() for step in steps if "j" in step]
    texts += [step["t"].encode() for step in steps if isinstance(step.get("t"), str)]
    return [text for text in texts if len(text) < LIMIT_BYTES and not _is_kept_out(text)]


def _is_kept_out(frame: bytes) -> bool:
    return any(word in frame for word in _KEPT_OUT)


class Frames:
    """An endless supply of frames. ``number`` counts well-formed requests; their ids are theirs alone."""

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
        if method in ("generate", "load"):  # a model that nobody else unloads
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
        """A frame that may be anything."""
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
            frame = pick.choice(_DAMAGES)(pick, frame)
        return frame

    def _message(self) -> Json:
        method = self._pick.choice(list(self._params))
        message = {"jsonrpc": "2.0", "method": method, "params": self._params[method]()}
        if self._pick.random() < 0.8:
            message["id"] = self._id()
        return message

    def _altered(self, value: Json) -> Json:
        """``value`` with one thing in it another."""
        pick = self._pick
        if isinstance(value, dict) and value and pick.random() < 0.9:
            name = pick.choice(list(value))
            way = pick.random()
            if way < 0.15:
                return {key: inner for key, inner in value.items() if key != name}
            if way < 0.3:
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
        way = pick.choice(("prompt", "tokens", "messages"))
        params[way] = {"prompt": self._text, "tokens": self._tokens, "messages": self._messages}[way]()
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
        if pick.random() < 0.1:  # whoever does not acknowledge must end some time
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


# What can happen to a text. Each takes and returns one.


def _flip(pick: Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(pick.randint(1, 3)):
        data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
    return bytes(data)


def _cut(pick: Random, frame: bytes) -> bytes:
    return frame[: pick.randint(1, len(frame))]


def _drop(pick: Random, frame: bytes) -> bytes:
    at = pick.randrange(len(frame))
    return frame[:at] + frame[at + pick.randint(1, 8) :] or b"0"


def _repeat(pick: Random, frame: bytes) -> bytes:
    at = pick.randrange(len(frame))
    end = at + pick.randint(1, 40)
    return frame[:end] + frame[at:]


def _insert(pick: Random, frame: bytes) -> bytes:
    odd = [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf0\x9f",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\r",
        b"\n",
        b"\\ud83d",
        b"\\u12",
    ]
    at = pick.randint(0, len(frame))
    return frame[:at] + pick.choice(odd) + frame[at:]


def _duplicate_member(pick: Random, frame: bytes) -> bytes:
    name = pick.choice((b"id", b"method", b"params", b"jsonrpc", b"model"))
    return frame.replace(b"{", b'{"%b": 5, ' % name, 1)


def _odd_number(pick: Random, frame: bytes) -> bytes:
    numbers = [at for at, byte in enumerate(frame) if 48 <= byte <= 57]
    if not numbers:
        return frame
    at = pick.choice(numbers)
    return frame[:at] + pick.choice(_ODD_NUMBERS) + frame[at + 1 :]


def _nest(pick: Random, frame: bytes) -> bytes:
    depth = pick.choice((2, 100, 127, 128, 129, 300, 5000))
    begin, end = pick.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return begin * depth + frame + end * (depth - pick.randint(0, 1))


def _grow(pick: Random, frame: bytes) -> bytes:
    if pick.random() > 0.02:  # a large one costs as much as hundreds
        return frame
    return frame.replace(
        b'"', b'"' + b"g" * pick.choice((4000, LIMIT_BYTES - 500, LIMIT_BYTES - len(frame), LIMIT_BYTES)), 1
    )


def _noise(pick: Random, frame: bytes) -> bytes:
    return pick.randbytes(min(len(frame), pick.randint(1, 60)))


_DAMAGES = (
    _flip,
    _flip,
    _flip,
    _cut,
    _cut,
    _drop,
    _repeat,
    _insert,
    _insert,
    _duplicate_member,
    _odd_number,
    _nest,
    _grow,
    _noise,
)
