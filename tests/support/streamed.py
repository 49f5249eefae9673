"""The checks that every streamed answer must pass, whichever part serves it."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

from .host import Frame, Host


def assert_whole(deltas: list[Frame], result: Frame) -> None:
    """The deltas are numbered from 0 without gaps, and together they are exactly the answer."""
    assert [delta["seq"] for delta in deltas] == list(range(len(deltas)))
    assert "".join(delta["text"] for delta in deltas) == result["text"]
    assert [token for delta in deltas for token in delta["tokens"]] == result["tokens"]
    offset = 0
    for delta in deltas:
        assert delta["offset"] == offset
        offset += len(delta["text"])
    assert result.get("last_seq", -1) == len(deltas) - 1
    assert_channels_add_up(deltas, result)


def assert_channels_add_up(deltas: list[Frame], result: Frame) -> None:
    """Reasoning and calls of the deltas, put together without a look at their numbers, are exactly the answer's."""
    reasoning, calls = "", list[Frame]()
    for delta in deltas:
        assert sum((bool(delta["text"]), "reasoning" in delta, "tool_calls" in delta)) <= 1
        if "reasoning" in delta:
            assert delta["reasoning_offset"] == len(reasoning)
            reasoning += delta["reasoning"]
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(calls):
                calls.append({"id": call["id"], "name": call["name"], "arguments": ""})
            else:
                assert call.keys() == {"index", "arguments"}
            calls[call["index"]]["arguments"] += call["arguments"]
    assert reasoning == result.get("reasoning", "")
    cut = {call["index"] for call in result.get("incomplete_tool_calls", ()) if "index" in call}
    assert [call for index, call in enumerate(calls) if index not in cut] == result.get("tool_calls", [])
    assert cut < {*range(len(calls)), None}


def assert_same(disturbed: Frame, undisturbed: Frame) -> None:
    """Two answers say the same."""
    for name in ("text", "tokens", "finish_reason"):
        assert disturbed[name] == undisturbed[name]
    assert disturbed.get("reasoning") == undisturbed.get("reasoning")
    for name in ("tool_calls", "incomplete_tool_calls"):
        assert without_ids(disturbed.get(name)) == without_ids(undisturbed.get(name))


def without_ids(calls: list[Frame] | None) -> list[Frame] | None:
    """Calls without their ids, which are random."""
    return calls and [{name: value for name, value in call.items() if name != "id"} for call in calls]


def answer_or_delta(host: Host, id_: int, seq: int) -> Frame:
    """Delta ``seq``, or the answer to ``id_`` if that comes first."""
    return host.wait_for(lambda frame: frame.get("id") == id_ or frame.get("params", {}).get("seq") == seq)


def assert_a_window_changes_nothing(host: Host, model: str) -> None:
    """A host that acknowledges each delta of a window gets the answer that it gets without one."""
    params = {"model": model, "prompt": "x", "seed": 1, "max_tokens": 300}
    plain = host.call("generate", params)
    id_ = host.request("generate", {**params, "stream": "s", "window": 3})
    seq = 0
    while "result" not in (frame := answer_or_delta(host, id_, seq)):
        host.notify("stream/ack", {"stream": "s", "seq": seq})
        seq += 1
    result = frame["result"]
    assert_whole(host.deltas("s"), result)
    assert all(result[name] == plain[name] for name in ("text", "tokens", "finish_reason", "usage"))


def assert_logprobs(result: Frame, alternatives: int, *, greedy: bool) -> None:
    """Each token has its log-probability and those of ``alternatives`` others, the likeliest first."""
    assert [entry["token"] for entry in result["logprobs"]] == result["tokens"]
    for entry in result["logprobs"]:
        top = entry["top"]
        assert len(top) == alternatives
        assert sorted((other["logprob"] for other in top), reverse=True) == [other["logprob"] for other in top]
        assert sum(exp(other["logprob"]) for other in top) <= 1 + 1e-5
        assert entry["logprob"] <= 0
        if greedy and alternatives:
            assert (top[0]["token"], top[0]["logprob"]) == (entry["token"], entry["logprob"])


def assert_logprobs_streamed(host: Host, model: str, alternatives: int, stream: str = "s") -> None:
    """Log-probabilities are one for each token, and the same in the deltas as in the answer."""
    params = {"model": model, "prompt": "How do I cancel", "logprobs": alternatives, "max_tokens": 40, "stream": stream}
    result = host.call("generate", params)
    assert_logprobs(result, alternatives, greedy=model == "pocket")
    deltas = host.deltas(stream)
    assert_whole(deltas, result)
    assert all([entry["token"] for entry in delta["logprobs"]] == delta["tokens"] for delta in deltas)
    assert [entry for delta in deltas for entry in delta["logprobs"]] == result["logprobs"]
    if result["text"].isascii():
        assert "".join(entry["text"] for entry in result["logprobs"]) == result["text"]


def assert_outlives_a_hang(host: Host, model: str, stop: Callable[[], None] = lambda: None) -> None:
    """A stream of ``model`` goes on in the next engine; the one it begins in hangs by itself or is stopped."""
    steady = model.partition("&hang_after")[0]
    undisturbed = host.call("generate", {"model": steady, "prompt": "x", "seed": 2})
    running = host.request("generate", {"model": model, "prompt": "x", "seed": 2, "stream": "s"})
    host.notification("stream/delta", stream="s")
    stop()
    notice = host.notification("stream/interrupted", stream="s")
    assert "s" in notice["because"].split()
    result = host.result(running)
    assert_same(result, undisturbed)
    assert_whole(host.deltas("s"), result)
