"""Messages of a host: good requests of every method, nearly good ones, and frames that are no messages."""

from __future__ import annotations

import json
import os
from collections import ChainMap
from typing import Any

from hypothesis import strategies as st

from mlx_sidecar_protocol.model import Received
from mlx_sidecar_protocol.registry import METHODS
from tests.support.strategies import JSON, attempts

from .facts import PARKED

Params = dict[str, Any]

STREAMS = ["a", "b", "1", 1, -7, "", "name with ünicode 🙂"]
MUTE_STREAMS = ["mute", 99]  # of notifications only
RUNNING = "fake?tokens=60&delay_ms=4"
MODELS = [
    *("fake", "fake?tokens=5", "fake?tokens=0", "fake?echo=1", "fake?text=h%C3%A9llo", "fake?tokens=40&wide=1"),
    *(RUNNING, "fake?tokens=300&wide=1", "fake?prefill_ms=20", "fake?load_ms=30", "fake?tokens=9000&context=20000"),
]
FAILING = [
    *("fake?fail_after=0", "fake?fail_after=3", "fake?raise_after=0", "fake?raise_after=4&tokens=9"),
    *("fake?context=16", "fake?no_such_option=1", "fake?fail_load=model_not_found", "fake?fail_load=x"),
]
CRASHING = [
    "fake?crash_after=0",
    "fake?crash_after=5&tokens=12",
    "fake?crash_after=30&tokens=50&delay_ms=3",
    "fake?poison_after=2&tokens=5",
]

names = st.sampled_from(STREAMS)
tokens = st.lists(st.integers(0, 256), min_size=1, max_size=12)
texts = st.text(max_size=20) | st.sampled_from(["x", "Hello", "äöü 日本 🙂", "\u2028\ufeff", "x" * 50])
prompts = st.text(min_size=1, max_size=20)
content = st.none() | texts | st.lists(texts.map(lambda text: {"type": "text", "text": text}), max_size=2)
chats = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"])}, optional={"content": content}),
    min_size=1,
    max_size=3,
)
prompted = (
    st.fixed_dictionaries({"prompt": prompts})
    | st.fixed_dictionaries({"tokens": tokens})
    | st.fixed_dictionaries({"messages": chats}, optional={"tools": st.just([{"name": "t"}])})
)
sampling = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 50),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.1, 1),
        "top_k": st.integers(0, 300),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.5, 2),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.none() | st.floats(-2, 2),
        "logit_bias": st.dictionaries(st.integers(0, 256).map(str), st.floats(-5, 5), max_size=2),
        "seed": st.integers(0, 2**63 - 1),
        "stop": st.lists(st.sampled_from([" ", "the", "é", "or a"]), max_size=2),
        "stop_tokens": st.lists(st.integers(0, 256), max_size=2),
        "ignore_eos": st.just(False),
        "repeat_guard": st.integers(3, 12),
        "skip_special": st.booleans(),
        "escape_special": st.just(False),
        "logprobs": st.integers(0, 20),
        "priority": st.sampled_from(["critical", "high", "normal", "low", None]),
        "deadline_s": st.sampled_from([0.02, 0.2, 3600]),
        "explain_cache": st.booleans(),
    },
)
streaming = st.fixed_dictionaries(
    {"stream": names},
    optional={
        "window": st.integers(1, 4),
        "min_interval_ms": st.sampled_from([0, 1, 20, 100_000]),
        "echo_text": st.booleans(),
    },
)


def merged(*parts: st.SearchStrategy[Params]) -> st.SearchStrategy[Params]:
    return st.tuples(*parts).map(lambda found: dict(ChainMap(*found)))


def of_model(*more: st.SearchStrategy[Params], models: list[str] = MODELS) -> st.SearchStrategy[Params]:
    return merged(st.fixed_dictionaries({"model": st.sampled_from(models)}), *more)


plain = of_model(prompted, sampling)
streamed = of_model(prompted, sampling, streaming)
parked = st.fixed_dictionaries(
    {"model": st.just(PARKED), "prompt": st.just("x"), "stream": names, "window": st.just(1)}
)
failing = of_model(prompted, streaming, models=FAILING)
crashing = of_model(prompted, streaming, models=CRASHING)
empty: st.SearchStrategy[Params] = st.just({})
flags = st.booleans()


def renamed(request: tuple[str, Any], suffix: str) -> tuple[str, Any]:
    """Give a stream another name."""
    method, params = request
    if method != "generate" or not isinstance(params, dict) or params.get("stream") is None:
        return request
    return method, {**params, "stream": f"{params['stream']} {suffix}"}


# Parameters that no model of the wire refuses. Those that the fake engine lacks are unsupported_parameter.
GOOD: dict[str, st.SearchStrategy[Params]] = {
    "ping": empty,
    "models": empty,
    "adapter/load": of_model(st.just({"adapter": "a", "path": "/nowhere"})),
    "adapter/unload": of_model(st.just({"adapter": "a"})),
    "adapters": empty | of_model(),
    "stats": empty,
    "local/list": st.just({}) | st.just({"folders": ["/nowhere"]}),
    "local/delete": of_model(),
    "rpc.discover": empty,
    "cache/stats": empty,
    "generate": plain | streamed,
    "load": of_model(st.fixed_dictionaries({}, optional={"pin": flags, "progress": names, "ttl_s": st.just(3600.0)})),
    "unload": of_model(st.fixed_dictionaries({}, optional={"force": flags})),
    "tokenize": of_model(
        st.fixed_dictionaries({"text": texts}, optional={"add_special": flags, "pieces": st.none() | flags})
    ),
    "detokenize": of_model(st.fixed_dictionaries({"tokens": tokens})),
    "render": of_model(st.fixed_dictionaries({"messages": chats}, optional={"add_generation_prompt": flags})),
    "stream/cancel": st.fixed_dictionaries({"stream": names}),
    "stream/subscribe": st.fixed_dictionaries({"stream": names}, optional={"after_seq": st.none() | st.integers(0, 5)}),
    "cache/clear": st.fixed_dictionaries({}, optional={"disk": flags}),
    "cache/warm": of_model(prompted),
    "cache/export": of_model(prompted, st.just({"path": "/nowhere/cache"})),
    "cache/import": of_model(st.just({"path": "/nowhere/cache"})),
    "session/open": of_model(st.fixed_dictionaries({}, optional={"messages": chats, "ttl_s": st.just(0.05)})),
    "session/fork": st.just({"session": "none"}),
    "session/get": st.just({"session": "none"}),
}
acks = st.fixed_dictionaries({"stream": names, "seq": st.integers(0, 4) | st.just(10**6)})


def _attempts(method: str) -> st.SearchStrategy[Any]:
    params = METHODS[method].params
    assert issubclass(params, Received)
    # No process_id, because one of a process that does not exist ends the session.
    tried = attempts(params).map(lambda tried: {**tried, "process_id": os.getpid()} if "process_id" in tried else tried)
    return tried | tried.map(lambda by_name: list(by_name.values())) | JSON


def _nearly(method: str) -> st.SearchStrategy[Any]:
    """Draw good parameters with one member taken away or replaced."""
    return st.builds(_damaged, GOOD.get(method, acks), st.integers(0, 20), JSON | st.none(), flags)


def _damaged(params: Params, which: int, value: Any, goes: bool) -> Params:
    name = [*params, "unknown"][which % (len(params) + 1)]
    rest = {key: old for key, old in params.items() if key != name}
    return rest if goes else {**rest, name: value}


ASKED = [name for name, spec in METHODS.items() if spec.kind == "request" and name not in ("initialize", "shutdown")]
good_requests = st.sampled_from(sorted(GOOD)).flatmap(lambda name: st.tuples(st.just(name), GOOD[name]))
odd_requests = st.sampled_from([*ASKED, "initialized", "$/cancelRequest"]).flatmap(
    lambda name: st.tuples(st.just(name), _nearly(name) | _attempts(name))
)
unknown_methods = st.sampled_from(["no/such", "", "stream/delta", "log", "rpc.discover ", "Ping", "$/other"])

bad_elements = st.lists(st.sampled_from([b"1", b"[]", b"{}", b'{"jsonrpc":"2.0","id":0.5}']), max_size=2)

ENDS_A_SESSION_BYTES = 20_000  # a longer body in a header's frame
# Each of these frames is answered with one error under null, or not at all. A line feed would make two frames.
GARBAGE = [
    *(b"{", b"}", b"nonsense", b"\xff\xfe\x00", b"[1,", b'{"jsonrpc":"2.0","id":1,', b"NaN", b'{"id":Infinity}'),
    *(b"1", b'"x"', b"null", b"true", b"-0.0", b"[]", b"{}", b"[[]]", b'{"jsonrpc":"2.0"}', b"[null,1,[{}]]"),
    *(b"[" * 200 + b"]" * 200, b"[" * 100_000, b"[" * 129 + b"]" * 129, b" " * 7),
    *(b'{"jsonrpc":"2.0","id":true,"method":"ping"}', b'{"jsonrpc":"2.0","id":{},"method":"ping"}'),
    b'{"jsonrpc":"2.0","id":"' + b"x" * 1025 + b'","method":"ping"}',
    b'{"jsonrpc":"2.0","id":null,"method":"ping","params":7}',
    *(b'{"jsonrpc":"2.0","id":5,"result":{}}', b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}'),
    b'{"jsonrpc":"2.0","method":"ping","params":{"x":"\\ud800"}}',
]


def call(method: str, params: Any = None, *, id_json: str | None = None, version: str = "2.0") -> bytes:
    """Return a call as JSON, or a notification without ``id``, which is JSON already because its digits matter."""
    members = {"jsonrpc": json.dumps(version), "id": id_json, "method": json.dumps(method)}
    members["params"] = None if params is None else json.dumps(params)
    return ("{" + ",".join(f'"{name}":{text}' for name, text in members.items() if text is not None) + "}").encode()


def cancel(target: str, *, id_json: str | None) -> bytes:
    """Cancel ``target``, an id as JSON."""
    own = "" if id_json is None else f'"id":{id_json},'
    return f'{{"jsonrpc":"2.0",{own}"method":"$/cancelRequest","params":{{"id":{target}}}}}'.encode()


def new_id(number: int, kind: int) -> str:
    """Return an id of one of many kinds, as JSON, different for each number."""
    kinds = ["{0}", '"{0}"', "{0}.5", "{0}.0", "{0}e0", "{0}000000000000000000000", '"name ü {0}"', "-{0}", "{0}E+2"]
    return kinds[kind % len(kinds)].format(number)
