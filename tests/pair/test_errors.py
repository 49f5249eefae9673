"""Every row of the error table, provoked over the pipe."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.host import Frame
from tests.support.pair import Pair, pair


def assert_error(error: Frame, code: int, kind: str, **data: Any) -> None:
    assert error["code"] == code, error
    assert error["data"]["kind"] == kind
    assert data.items() <= error["data"].items()
    assert isinstance(error["data"]["retryable"], bool)


def assert_alive(process: Pair) -> None:
    assert process.call("ping") == {}


def test_what_is_not_json_is_a_parse_error() -> None:
    with pair("--fixtures") as process:
        process.write(b"{nonsense\n")
        assert_error(process.answer(None)["error"], -32700, "parse_error")
        assert_alive(process)


def test_what_is_no_message_is_an_invalid_request() -> None:
    with pair("--fixtures") as process:
        process.send({"jsonrpc": "2.0", "id": 7})
        assert_error(process.answer(7)["error"], -32600, "invalid_request")
        assert_alive(process)


def test_a_frame_beyond_the_limit_is_refused_and_the_next_line_is_read() -> None:
    with pair("--fixtures", "--frame-limit-bytes", "1000") as process:
        process.request("t.echo", ["x" * 2000])
        assert_error(process.answer(None)["error"], -32600, "frame_too_large", limit_bytes=1000)
        assert_alive(process)


def test_a_batch_beyond_the_limit_is_refused_whole() -> None:
    with pair("--batch-limit", "2") as process:
        process.send([{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in range(3)])
        assert_error(process.answer(None)["error"], -32600, "batch_too_long", have=3, limit=2)
        assert_alive(process)


def test_an_unknown_method_is_method_not_found() -> None:
    with pair("--fixtures") as process:
        assert_error(process.error("no/such"), -32601, "method_not_found")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"model": "fake"}, ["prompt"]),
        ({"model": "fake", "prompt": "x", "tokens": [1]}, ["tokens"]),
        ({"model": "fake", "prompt": "x", "temperature": "hot"}, ["temperature"]),
        ({"model": "fake", "prompt": "x", "top_p": 0}, ["top_p"]),
        ({"model": "fake", "prompt": "x", "colour": "red"}, ["colour"]),
        ({"model": "fake", "messages": [{"content": "x"}]}, ["messages", 0, "role"]),
        ({"model": "fake", "tokens": [70_000]}, ["tokens"]),
        ({"model": "fake", "prompt": "x", "stop_tokens": [257]}, ["stop_tokens"]),
        ({"model": "fake", "prompt": "x", "logit_bias": {"300": 1}}, ["logit_bias"]),
        ({"model": "fake", "prompt": ""}, ["prompt"]),
    ],
)
def test_a_bad_parameter_is_named(params: dict[str, Any], field: list[str | int]) -> None:
    with pair("--fixtures") as process:
        error = process.error("generate", params)
        assert_error(error, -32602, "invalid_params")
        assert error["data"]["errors"][0]["loc"] == field
        assert_alive(process)


def test_an_exception_in_a_handler_is_a_bare_internal_error() -> None:
    with pair("--fixtures") as process:
        error = process.error("t.crash")
        assert_error(error, -32603, "internal_error")
        assert set(error["data"]) == {"kind", "retryable"}


def test_new_work_after_shutdown_is_refused_as_shutting_down() -> None:
    with pair("--fixtures") as process:
        running = process.request("generate", {"model": "fake?delay_ms=1000", "prompt": "x", "stream": "s"})
        process.notification("stream/delta", stream="s")
        process.request("shutdown", {"cancel": True})
        assert_error(process.error("generate", {"model": "fake", "prompt": "x"}), -32002, "shutting_down")
        assert process.result(running)["finish_reason"] == "cancelled"


def test_initialized_without_initialize_is_not_initialized() -> None:
    with pair("--fixtures") as process:
        assert_error(process.error("initialized"), -32002, "not_initialized")


def test_without_autoload_a_model_that_was_not_loaded_is_model_not_loaded() -> None:
    with pair("--no-autoload") as process:
        for method, params in (
            ("generate", {"prompt": "x"}),
            ("tokenize", {"text": "x"}),
            ("detokenize", {"tokens": [1]}),
        ):
            assert_error(process.error(method, {"model": "fake", **params}), -32003, "model_not_loaded", model="fake")
        process.call("load", {"model": "fake"})
        assert process.call("tokenize", {"model": "fake", "text": "x"})["tokens"] == [120]


def test_unloading_a_model_with_streams_is_model_in_use_unless_forced() -> None:
    model = "fake?tokens=1000&delay_ms=50"
    with pair("--fixtures") as process:
        running = process.request("generate", {"model": model, "prompt": "x", "stream": "s"})
        process.notification("stream/delta", stream="s")
        assert_error(process.error("unload", {"model": model}), -32003, "model_in_use", streams=1)
        process.call("unload", {"model": model, "force": True})
        result = process.result(running)
        assert result["finish_reason"] == "error"
        assert result["error"]["data"]["kind"] == "model_not_loaded"
        assert result["text"]


def test_a_prompt_longer_than_the_context_is_context_too_long() -> None:
    with pair("--fixtures") as process:
        error = process.error("generate", {"model": "fake?context=10", "prompt": "twelve bytes"})
        assert_error(error, -32004, "context_too_long", have=12)


def test_a_full_queue_is_overloaded_and_says_when_to_come_back() -> None:
    params = {"model": "fake?tokens=1000&delay_ms=10000", "prompt": "x"}
    with pair("--fixtures") as process:
        process.call("load", {"model": params["model"]})
        for number in range(1200):
            process.request("generate", params, f"g{number}")
        error = process.wait_for(lambda frame: "error" in frame)["error"]
        assert_error(error, -32005, "overloaded")
        assert error["data"]["retryable"]
        assert error["data"]["retry_after_s"] > 0
        assert_alive(process)


def test_a_model_beyond_the_memory_limit_is_out_of_memory_with_numbers() -> None:
    with pair("--memory-limit-bytes", "1000000") as process:
        error = process.error("load", {"model": "fake?memory_bytes=2000000"})
        assert_error(error, -32005, "out_of_memory", need_bytes=2_000_000)


def test_a_request_that_ends_every_engine_before_it_started_is_refused_as_poison() -> None:
    with pair("--fixtures") as process:
        error = process.error("generate", {"model": "fake?poison_after=0", "prompt": "x"})
        assert_error(error, -32006, "poison_request", because="exited with status 70")
        assert not error["data"]["retryable"]


def test_streams_that_do_not_exist_or_exist_twice_are_refused() -> None:
    params = {"model": "fake?tokens=1000&delay_ms=50", "prompt": "x", "stream": "s"}
    with pair("--fixtures") as process:
        assert_error(process.error("stream/cancel", {"stream": "none"}), -32007, "unknown_stream", stream="none")
        assert_error(process.error("stream/subscribe", {"stream": 1}), -32007, "unknown_stream", stream=1)
        process.request("generate", params)
        process.notification("stream/delta", stream="s")
        assert_error(process.error("generate", params), -32007, "duplicate_stream", stream="s")


def test_an_id_whose_request_still_runs_is_a_duplicate() -> None:
    params = {"model": "fake?tokens=1000&delay_ms=50", "prompt": "x"}
    with pair("--fixtures") as process:
        process.request("generate", {**params, "stream": "s"}, "same")
        process.notification("stream/delta", stream="s")
        process.request("generate", params, "same")
        assert_error(process.answer("same")["error"], -32007, "duplicate_id")
        process.call("stream/cancel", {"stream": "s"})
        result = process.wait_for(lambda frame: frame.get("id") == "same" and "result" in frame)["result"]
        assert result["finish_reason"] == "cancelled"


@pytest.mark.parametrize("how", ["by id", "by stream"])
def test_a_request_cancelled_before_it_started_is_an_error_that_says_so(how: str) -> None:
    with pair("--fixtures") as process:
        params = {"model": "fake?load_ms=60000", "prompt": "x", "stream": "s"}
        loading = process.request("generate", params)
        assert_error(process.error("generate", params), -32007, "duplicate_stream", stream="s")
        if how == "by id":
            process.notify("$/cancelRequest", {"id": loading})
        else:
            process.call("stream/cancel", {"stream": "s"})
        assert_error(process.answer(loading)["error"], -32800, "cancelled")
        assert process.call("stream/cancel", {"stream": "s"}) == {}  # late, and no mistake
        assert_alive(process)
