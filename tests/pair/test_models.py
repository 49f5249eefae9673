"""Loads: in another way, of two hosts that wait for one, and with times beyond any life."""

from __future__ import annotations

from tests.support.pair import pair


def test_loading_a_resident_model_in_another_way_is_refused_and_names_the_field() -> None:
    with pair() as process:
        process.call("load", {"model": "fake"})
        error = process.error("load", {"model": "fake", "dtype": "float16"})
        assert error["data"]["kind"] == "invalid_params"
        (fault,) = error["data"]["errors"]
        assert fault["loc"] == ["dtype"]
        assert error["message"] == f"dtype: {fault['msg']}"


def test_a_cancelled_load_is_taken_over_by_the_request_that_waits_for_the_same_model() -> None:
    model = "fake?load_ms=300"
    with pair() as process:
        first = process.request("load", {"model": model, "progress": "first"})
        process.notification("progress", token="first")
        second = process.request("load", {"model": model, "progress": "second"})
        process.notify("$/cancelRequest", {"id": first})
        assert process.answer(first)["error"]["data"]["kind"] == "cancelled"
        assert process.result(second)["state"] == "ready"
        assert process.call("stats")["counters"]["loads"] == 1


def test_times_beyond_any_life_are_taken_and_stop_nothing() -> None:
    with pair() as process:
        process.call("load", {"model": "fake?tokens=50&delay_ms=1", "ttl_s": 1e300})
        params = {"model": "fake?tokens=50&delay_ms=1", "prompt": "x", "stream": "s", "min_interval_ms": 10**400}
        waiting = process.request("generate", params)
        process.notification("stream/delta", stream="s")
        process.call("ping")  # while the next delta is due in the far future
        assert process.result(waiting)["finish_reason"] == "stop"
        assert process.call("stats")["engine"]["restarts"] == 0
