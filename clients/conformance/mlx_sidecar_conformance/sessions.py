"""The golden sessions: frames that a host sends, and patterns that it waits for between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Step = tuple[str, Any]


@dataclass(frozen=True)
class Session:
    """A session of steps: ``("say", frame)``, and ``("hear", pattern)``, which reads until a frame fits."""

    name: str
    about: str
    steps: list[Step]
    options: list[str] = field(default_factory=list)
    framing: str = "lines"


def ask(id_: Any, method: str, **params: Any) -> Step:
    return "say", {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


def tell(method: str, **params: Any) -> Step:
    return "say", {"jsonrpc": "2.0", "method": method, "params": params}


def answer(id_: Any) -> Step:
    return "hear", {"id": id_}


def call(id_: Any, method: str, **params: Any) -> list[Step]:
    return [ask(id_, method, **params), answer(id_)]


def generate(id_: Any, model: str, **params: Any) -> Step:
    return ask(id_, "generate", **{"model": f"fake?{model}", "prompt": "Hello", "seed": 7, **params})


def chat(id_: Any, model: str, **params: Any) -> Step:
    """A chat with tools."""
    return generate(id_, model, prompt=None, messages=CHAT, tools=TOOLS, **params)


def delta(stream: Any) -> Step:
    return "hear", {"method": "stream/delta", "params": {"stream": stream}}


def refused(id_: Any, model: str, **params: Any) -> list[Step]:
    return [generate(id_, model, **params), answer(id_)]


def turn(id_: Any, session: str, text: str, **params: Any) -> list[Step]:
    """A request in a session; ids that the sidecar chose are written by the numbers of their coming."""
    messages = [{"role": "user", "content": text}]
    return call(id_, "generate", session=session, messages=messages, seed=7, **params)


def acknowledge(seq: int) -> list[Step]:
    """Wait for a delta and acknowledge it."""
    return [("hear", {"method": "stream/delta", "params": {"seq": seq}}), tell("stream/ack", stream="a", seq=seq)]


HELLO = [
    ask(1, "initialize", protocol_version=1, client={"name": "my-editor", "version": "1.2"}, process_id="OURS"),
    answer(1),
    tell("initialized"),
    ("hear", {"method": "engine/state", "params": {"state": "ready"}}),
]
BYE = [*call(99, "shutdown"), tell("exit")]

VECTORS = "fake?dimensions=4&context=16"  # numbers of a vector, tokens of a text

BATCH = [
    {"jsonrpc": "2.0", "id": 1, "method": "ping"},
    {"jsonrpc": "2.0", "id": 2, "method": "tokenize", "params": {"model": "fake", "text": "abc"}},
    {"jsonrpc": "2.0", "method": "initialized"},
    "no request",
    {"jsonrpc": "2.0", "id": 3, "method": "no/such"},
]
CHAT = [{"role": "user", "content": "How do I cancel a stream?"}]
PERSON = '{"name": "Ada"}'
PERSON_SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}
PERSON_FORM = {"type": "json_schema", "schema": PERSON_SCHEMA}
UNKEPT_FORM = {"type": "json_schema", "schema": {"type": "array", "uniqueItems": True}}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "forecast", "description": "Weather.", "parameters": PLACE}}]
THOUGHT = "<think>\nTwo cities.\n</think>\n\n"
CALLS = [
    f'<tool_call>\n{{"name": "forecast", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
    for city in ("Bern", "Basel")
]
CALLING = f"text={THOUGHT}I shall look.\n" + "\n".join(CALLS)
PROSE = "text=<tool_call>\nI would call forecast now.\n</tool_call>"
LONG = "delay_ms=2000"  # before each token, so that the second one comes after the session's end

SESSIONS = [
    Session(
        "first-conversation",
        "initialize, a chat that is streamed, shutdown, exit",
        [*HELLO, generate(2, "text=Send it.", stream="a", prompt=None, messages=CHAT), answer(2), *BYE],
    ),
    Session("no-ceremony", "one request, one answer, and the end of input", [generate(1, "text=Hello to you.")]),
    Session(
        "cancel",
        "in mid-stream by stream/cancel, and too late; before it had begun by $/cancelRequest",
        [
            *HELLO,
            generate(2, f"text=ab&{LONG}", stream="a"),
            delta("a"),
            *call(3, "stream/cancel", stream="a"),
            answer(2),
            *call(4, "stream/cancel", stream="a"),
            generate(5, "load_ms=100000", stream="b"),
            tell("$/cancelRequest", id=5),
            answer(5),
            *BYE,
        ],
    ),
    Session(
        "errors",
        "requests that are refused, one kind of error after the other",
        [
            *HELLO,
            *call(2, "no/such"),
            *refused(3, "", max_tokens=0),
            *refused(4, "", no_such_parameter=True),
            *refused(5, "context=4"),
            *refused(6, "fail_load=model_not_found"),
            *refused(7, "fail_load=model_load_failed"),
            *refused(8, "no_such_option=1"),
            *call(9, "unload", model="nobody"),
            *call(10, "stream/cancel", stream="never there"),
            generate(11, f"text=ab&{LONG}", stream="a"),
            delta("a"),
            *refused(12, "", stream="a"),
            *call(13, "stream/ack", stream="a", seq=0),
            ask(14, "shutdown", cancel=True),
            answer(11),
            answer(14),
            *refused(15, ""),
            tell("exit"),
        ],
    ),
    Session(
        "broken-off",
        "a generation that fails in the middle ends in a result, with what there was",
        [*HELLO, generate(2, "text=abcdef&fail_after=3", stream="a"), answer(2), *BYE],
    ),
    Session(
        "load",
        "a load with progress, the list of models, an unload",
        [
            *HELLO,
            *call(2, "load", model="fake?load_ms=100", progress="p", pin=True),
            *call(3, "models"),
            *call(4, "unload", model="fake?load_ms=100"),
            *BYE,
        ],
    ),
    Session(
        "engine-crash",
        "the engine dies in mid-stream; the stream goes on where it was",
        [*HELLO, generate(2, "text=abcdef&crash_after=3", stream="a"), answer(2), *BYE],
    ),
    Session(
        "forms",
        "answers with a form: whole, cut off, one that no answer can be held to, and a draft that fits",
        [
            *HELLO,
            generate(2, "text=" + PERSON, response_format=PERSON_FORM, stream="a"),
            answer(2),
            generate(3, "text=" + PERSON, response_format=PERSON_FORM, max_tokens=5),
            answer(3),
            *refused(4, "", response_format=UNKEPT_FORM),
            *refused(5, "", response_format={"type": "choice", "choices": []}),
            *call(6, "check_draft", model="fake", draft="fake?tokens=1"),
            *BYE,
        ],
    ),
    Session(
        "tools",
        "reasoning, text and calls in channels of their own: whole, read again, cut off, and prose that is no call",
        [
            *HELLO,
            chat(2, CALLING, stream="a"),
            answer(2),
            *call(3, "stream/subscribe", stream="a"),
            chat(4, CALLING, stream="b", max_tokens=len(CALLING) - 40),
            answer(4),
            chat(5, PROSE),
            answer(5),
            chat(6, CALLING, output="raw"),
            answer(6),
            *BYE,
        ],
    ),
    Session(
        "sessions",
        "a chat by its handle: turns, a branch, a fork, a rollback, what it holds, an unknown one",
        [
            *HELLO,
            *call(2, "session/open", model="fake?text=Yes.", messages=[{"role": "system", "content": "Be brief."}]),
            *turn(3, "session_1", "One?", stream="a"),
            *turn(4, "session_1", "Two?"),
            *turn(5, "session_1", "Or three?", at="turn_2"),
            *call(6, "session/fork", session="session_1", at="turn_3"),
            *turn(7, "session_2", "Four?", max_tokens=2),
            *call(8, "session/rollback", session="session_1", to="turn_2", dry_run=True),
            *call(9, "session/rollback", session="session_1", to="turn_2"),
            *call(10, "session/get", session="session_1"),
            *call(11, "session/close", session="session_2"),
            *call(12, "session/get", session="session_2"),
            *BYE,
        ],
    ),
    Session(
        "window",
        "at most one delta is unacknowledged",
        [
            *HELLO,
            generate(2, "text=ab&delay_ms=1000", stream="a", window=1),
            *acknowledge(0),
            *acknowledge(1),
            answer(2),
            *BYE,
        ],
    ),
    Session(
        "subscribe",
        "what a stream said, again, after its end",
        [
            *HELLO,
            generate(2, "text=abcdef", stream="a"),
            answer(2),
            *call(3, "stream/subscribe", stream="a"),
            *BYE,
        ],
    ),
    Session(
        "embed",
        "vectors as numbers and as base64, of strings and tokens; a text that is too long; documents by a query",
        [
            *HELLO,
            *call(2, "embed", model=VECTORS, input=["a stone", "a river"]),
            *call(3, "embed", model=VECTORS, input=[[97, 32, 115]], encoding="base64", dimensions=2, normalize=False),
            *call(4, "embed", model=VECTORS, input=["short", "much too long for it"]),
            *call(5, "embed", model=VECTORS, input=["much too long for it"], truncate=True, instruction="a "),
            *call(6, "rerank", model=VECTORS, query="red ", documents=["a fish", "a red one"], top_n=1),
            *call(7, "rerank", model=VECTORS, query="", documents=["a fish"]),
            *BYE,
        ],
    ),
    Session(
        "batch",
        "a batch has one array of answers; its bad elements spoil nothing",
        [("say", BATCH), ("hear", {"$type": "array"})],
    ),
    Session(
        "headers",
        "the first conversation with Content-Length headers",
        [*HELLO, *call(2, "ping"), generate(3, "text=Send it.", stream="a"), answer(3), *BYE],
        framing="headers",
    ),
]
