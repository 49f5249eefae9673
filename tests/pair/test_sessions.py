"""Sessions as a host sees them, on the fake engine: turns, branches, bounds, and chats that grow too long."""

from __future__ import annotations

import gc
import json
import signal
from pathlib import Path
from typing import Any

from tests.support.pair import Pair, pair

MODEL = "fake?text=Hello."
SYSTEM = {"role": "system", "content": "Be brief."}
ECHO = "fake?echo=1&context=100000"  # the answer is the prompt


def opened(process: Pair, model: str = MODEL, **params: Any) -> dict[str, Any]:
    return process.call("session/open", {"model": model, **params})


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def ask(process: Pair, session: str, text: str = "Hi", **params: Any) -> dict[str, Any]:
    return process.call("generate", {"session": session, "messages": said(text), **params})


def refused(process: Pair, method: str, **params: Any) -> tuple[str, Any]:
    """The kind of error, and the field that it names."""
    data = process.error(method, params)["data"]
    return data["kind"], data["errors"][0]["loc"] if "errors" in data else None


def test_a_chat_grows_by_the_new_messages_alone() -> None:
    with pair() as process:
        session = opened(process, ECHO, messages=[SYSTEM])["session"]
        first = ask(process, session, "One")
        assert first["text"] == "<|system|>Be brief.\n<|user|>One\n<|assistant|>"
        second = ask(process, session, "Two")
        assert second["text"] == f"{first['text'] * 2}\n<|user|>Two\n<|assistant|>"
        assert (first["rendered_differs"], second["rendered_differs"]) == (False, False)


def test_every_turn_tells_its_messages_its_answer_and_its_counts() -> None:
    with pair() as process:
        base = opened(process, messages=[SYSTEM], ttl_s=60)
        first, second = ask(process, base["session"], "One"), ask(process, base["session"], "Two", max_tokens=2)
        told = process.call("session/get", {"session": base["session"]})
        assert (told["model"], told["turn"], told["ttl_s"]) == (MODEL, second["turn"], 60)
        assert told["turns"] == [
            {"turn": base["turn"], "messages": [SYSTEM], "prompt_tokens": 0, "completion_tokens": 0},
            {
                "turn": first["turn"],
                "parent": base["turn"],
                "messages": said("One"),
                "answer": {"role": "assistant", "content": "Hello."},
                "finish_reason": "stop",
                "prompt_tokens": first["usage"]["prompt_tokens"],
                "completion_tokens": 6,
            },
            {
                "turn": second["turn"],
                "parent": first["turn"],
                "messages": said("Two"),
                "answer": {"role": "assistant", "content": "He"},
                "finish_reason": "length",
                "prompt_tokens": second["usage"]["prompt_tokens"],
                "completion_tokens": 2,
            },
        ]


def test_calls_and_reasoning_are_members_of_the_answer_and_go_back_as_they_were_written() -> None:
    call = '<think>\nHm.\n</think>\n\n<tool_call>\n{"name":"look",  "arguments": {"at": 5}}\n</tool_call>'
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    with pair() as process:
        model = "fake?text=" + "".join(f"%{byte:02x}" for byte in call.encode())
        session = opened(process, model, tools=tools)["session"]
        first = ask(process, session)
        assert first["finish_reason"] == "tool_calls"
        [_, turn] = process.call("session/get", {"session": session})["turns"]
        answer = turn["answer"]
        assert answer["reasoning_content"].strip() == "Hm."
        assert json.loads(answer["tool_calls"][0]["function"]["arguments"]) == {"at": 5}
        result = {"role": "tool", "content": "42", "tool_call_id": answer["tool_calls"][0]["id"]}
        second = process.call("generate", {"session": session, "messages": [result]})
        new = len("\n<|tool|>42\n<|assistant|>")
        assert second["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"] + len(call) + new
        assert second["rendered_differs"]  # by two spaces in the call
        third = process.call("generate", {"session": session, "messages": said("So?"), "render": "template"})
        assert not third["rendered_differs"]


def test_two_requests_on_one_turn_are_two_branches() -> None:
    with pair() as process:
        base = opened(process, ECHO)
        ids = process.requests("generate", [{"session": base["session"], "messages": said(text)} for text in "ab"])
        results = [process.result(id_) for id_ in ids]
        assert [result["text"] for result in results] == [f"<|user|>{text}\n<|assistant|>" for text in "ab"]
        turns = process.call("session/get", {"session": base["session"]})["turns"]
        assert [turn.get("parent") for turn in turns] == [None, base["turn"], base["turn"]]
        again = ask(process, base["session"], "c", at=results[0]["turn"])
        assert again["text"].startswith("<|user|>a")


def test_a_fork_goes_on_from_its_turn_and_neither_sees_what_the_other_adds() -> None:
    with pair() as process:
        session = opened(process)["session"]
        first, second = ask(process, session, "One"), ask(process, session, "Two")
        fork = process.call("session/fork", {"session": session, "at": first["turn"]})
        assert fork["turn"] == first["turn"]
        other = ask(process, fork["session"], "Two")
        assert other["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]
        turns = [
            [turn["turn"] for turn in process.call("session/get", {"session": each})["turns"]]
            for each in (session, fork["session"])
        ]
        assert turns[0][1:] == [first["turn"], second["turn"]]
        assert turns[1][1:] == [first["turn"], other["turn"]]
        process.call("session/close", {"session": session})
        assert ask(process, fork["session"], "Three")["turn"]


def test_a_rollback_says_what_it_removes_and_then_removes_it() -> None:
    with pair() as process:
        base = opened(process)
        turns = [ask(process, base["session"], text)["turn"] for text in ("One", "Two", "Three")]
        way = {"session": base["session"], "to": turns[0]}
        dry = process.call("session/rollback", {**way, "dry_run": True})
        assert dry["removed"] == turns[1:]
        assert len(process.call("session/get", {"session": base["session"]})["turns"]) == 4
        assert process.call("session/rollback", way) == dry
        assert process.call("session/get", {"session": base["session"]})["turn"] == turns[0]
        assert refused(process, "generate", session=base["session"], messages=said("x"), at=turns[1])[1] == ["at"]


def test_what_does_not_fit_a_session_is_refused_by_name() -> None:
    with pair() as process:
        session = opened(process)["session"]
        hi = {"session": session, "messages": said("Hi")}
        assert refused(process, "generate", session="session_0", messages=said("Hi")) == ("unknown_session", None)
        for method in ("fork", "get", "close"):
            assert refused(process, f"session/{method}", session="session_0") == ("unknown_session", None)
        assert refused(process, "generate", **hi, model="fake?tokens=3") == ("invalid_params", ["model"])
        assert refused(process, "generate", **hi, at="turn_0") == ("invalid_params", ["at"])
        assert refused(process, "generate", **hi, tools=[]) == ("invalid_params", ["tools"])
        assert refused(process, "generate", **hi, tool_choice="required") == ("invalid_params", ["tool_choice"])
        assert refused(process, "generate", session=session, prompt="Hi") == ("invalid_params", ["prompt"])
        assert refused(process, "generate", messages=said("Hi")) == ("invalid_params", ["model"])
        for name in ("at", "render"):
            asked = {"model": MODEL, "messages": said("Hi"), name: "template"}
            assert refused(process, "generate", **asked) == ("invalid_params", [name])
        assert refused(process, "session/rollback", session=session, to="turn_0") == ("invalid_params", ["to"])
        assert refused(process, "session/open", model="fake?fail_load=model_not_found", ttl_s=0)[1] == ["ttl_s"]
        assert process.call("generate", {**hi, "model": MODEL})["turn"]


def test_an_answer_that_was_cut_is_a_turn_and_one_that_never_began_is_none() -> None:
    with pair() as process:
        slow = opened(process, "fake?tokens=1000&delay_ms=20")["session"]
        id_ = process.request("generate", {"session": slow, "messages": said("Hi"), "stream": "s"})
        process.notification("stream/delta", stream="s")
        process.call("stream/cancel", {"stream": "s"})
        cut = process.result(id_)
        assert cut["finish_reason"] == "cancelled"
        turns = process.call("session/get", {"session": slow})["turns"]
        assert turns[-1]["turn"] == cut["turn"]
        assert turns[-1]["answer"]["content"] == cut["text"]
        more = ask(process, slow, "Go on", max_tokens=1)
        tail = len("\n<|user|>Go on\n<|assistant|>")
        assert more["usage"]["prompt_tokens"] == cut["usage"]["prompt_tokens"] + len(cut["tokens"]) + tail
        late = opened(process, "fake?prefill_ms=60000")["session"]
        assert "turn" not in ask(process, late, deadline_s=0.05)
        assert len(process.call("session/get", {"session": late})["turns"]) == 1


def test_a_request_whose_session_is_closed_meanwhile_ends_as_it_would_and_adds_no_turn() -> None:
    with pair() as process:
        session = opened(process, "fake?tokens=50&delay_ms=20")["session"]
        id_ = process.request("generate", {"session": session, "messages": said("Hi"), "stream": "s"})
        process.notification("stream/delta", stream="s")
        process.call("session/close", {"session": session})
        result = process.result(id_)
        assert (result["finish_reason"], "turn" in result) == ("stop", False)


def test_a_chat_says_the_same_whether_the_engine_died_between_its_turns_or_not() -> None:
    with pair() as process:
        process.initialize()
        session = opened(process, "fake?tokens=20")["session"]
        ask(process, session, "One", seed=1)
        fork = process.call("session/fork", {"session": session})["session"]
        undisturbed = ask(process, session, "Two", seed=2)
        process.end_engine(signal.SIGKILL)
        after = ask(process, fork, "Two", seed=2)
        assert (after["text"], after["tokens"]) == (undisturbed["text"], undisturbed["tokens"])
        process.call("unload", {"model": "fake?tokens=20"})
        assert ask(process, fork, "Three", seed=3)["text"] == ask(process, session, "Three", seed=3)["text"]


def test_the_bounds_are_told_and_what_exceeds_them_is_refused() -> None:
    with pair("--sessions-limit", "2", "--sessions-limit-bytes", "20000") as process:
        limits = process.initialize()["limits"]
        assert (limits["sessions"], limits["sessions_bytes"]) == (2, 20000)
        session, other = opened(process)["session"], opened(process)["session"]
        data = process.error("session/open", {"model": MODEL})["data"]
        assert (data["kind"], data["unit"], data["limit"]) == ("overloaded", "sessions", 2)
        assert process.error("session/fork", {"session": session})["data"]["unit"] == "sessions"
        data = process.error("generate", {"session": session, "messages": said("x" * 6000), "max_tokens": 4})["data"]
        assert (data["kind"], data["unit"], data["retryable"]) == ("overloaded", "bytes", True)
        ask(process, session, max_tokens=4)
        gauges = process.call("stats")["gauges"]
        assert gauges["sessions"] == 2
        assert 0 < gauges["sessions_bytes"] < 20000
        for each in (session, other):
            process.call("session/close", {"session": each})
        gc.collect()  # a refusal that was told may still refer to the turn that it was about
        gauges = process.call("stats")["gauges"]
        assert (gauges["sessions"], gauges["sessions_bytes"]) == (0, 0)


def test_a_session_goes_to_a_file_and_comes_back_with_all_its_branches(tmp_path: Path) -> None:
    path = str(tmp_path / "chat.session")
    with pair() as process:
        session = opened(process, messages=[SYSTEM], tools=[], template_args={"mood": "good"})["session"]
        first = ask(process, session, "One")
        ask(process, session, "Two")
        ask(process, session, "Another", at=first["turn"])
        written = process.call("session/export", {"session": session, "path": path})
        before = process.call("session/get", {"session": session})
    with pair() as process:
        read = process.call("session/import", {"path": path})
        assert {**read, "session": session} == written
        after = process.call("session/get", {"session": read["session"]})
        assert {**after, "session": session} == before
        assert ask(process, read["session"], "More", at=first["turn"])["turn"]
        renamed = process.call("session/import", {"path": path, "model": "fake?tokens=3"})["session"]
        assert len(ask(process, renamed, "More")["tokens"]) == 3
        Path(path).write_bytes(Path(path).read_bytes()[:-1])
        assert refused(process, "session/import", path=path) == ("invalid_params", ["path"])
        assert refused(process, "session/import", path=path + ".none") == ("invalid_params", ["path"])
        assert refused(process, "session/export", session=renamed, path=str(tmp_path)) == ("invalid_params", ["path"])
        assert refused(process, "session/import", path="chat.session") == ("invalid_params", ["path"])


def turns(count: int) -> list[dict[str, Any]]:
    chat = [SYSTEM]
    for number in range(count):
        chat += [*said(f"Question {number}"), {"role": "assistant", "content": "x" * 40}]
    return [*chat, *said("And now?")]


def test_the_oldest_turns_of_a_chat_that_is_too_long_are_left_out_where_that_was_asked_for() -> None:
    model = "fake?echo=1&context=400"
    with pair() as process:
        asked = {"model": model, "messages": turns(10), "context_overflow": "drop_oldest"}
        result = process.call("generate", asked)
        assert result["dropped_messages"] == 14  # seven turns; a quarter of the context is left to the answer
        assert result["usage"]["prompt_tokens"] <= 300
        assert result["text"].startswith("<|system|>Be brief.\n<|user|>Question 7\n")
        assert process.call("generate", {**asked, "max_tokens": 20})["dropped_messages"] == 12
        assert "dropped_messages" not in process.call("generate", {**asked, "messages": turns(2)})
        assert refused(process, "generate", model=model, messages=turns(10))[0] == "context_too_long"
        long = [*turns(3)[:-1], *said("x" * 400)]
        data = process.error("generate", {**asked, "messages": long})["data"]
        assert (data["kind"], data["limit"]) == ("context_too_long", 300)
        asked_of_text = {"model": model, "prompt": "x", "context_overflow": "drop_oldest"}
        assert refused(process, "generate", **asked_of_text) == ("invalid_params", ["context_overflow"])


def test_a_session_that_is_too_long_keeps_all_its_turns_and_leaves_the_oldest_out_of_the_prompt() -> None:
    with pair() as process:
        session = opened(process, "fake?text=abcdefghij&context=300", messages=[SYSTEM])["session"]
        how = {"context_overflow": "drop_oldest", "max_tokens": 20}
        dropped = [ask(process, session, f"Question {at}", **how).get("dropped_messages", 0) for at in range(12)]
        assert dropped == sorted(dropped)
        assert dropped[0] == 0
        assert all(number % 2 == 0 for number in dropped)
        told = process.call("session/get", {"session": session})["turns"]
        assert [turn["messages"][0]["content"] for turn in told[1:]] == [f"Question {at}" for at in range(12)]
        assert told[-1]["dropped_messages"] == dropped[-1] > 0
        assert all(turn["prompt_tokens"] <= 280 for turn in told)
        assert refused(process, "generate", session=session, messages=said("x" * 60))[0] == "context_too_long"
