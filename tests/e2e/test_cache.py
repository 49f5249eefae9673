"""The prefix cache as a host sees it: over real pipes, with the real engine and the embedded model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.forwards import native_only
from tests.support.pair import pair
from tests.support.sidecar import Sidecar, sidecar

SYSTEM = {"role": "system", "content": "You answer questions about mlx-sidecar. Today is 2026-11-27. Be brief. " * 4}
QUESTION = {"role": "user", "content": "What is mlx-sidecar?"}


@pytest.fixture(scope="module")
def caching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecar("--numerics", "exact", "--cache-dir", str(tmp_path_factory.mktemp("cache"))) as running:
        yield running


@pytest.fixture
def process(caching: Sidecar) -> Sidecar:
    """A sidecar that has cached nothing, in memory or on disk."""
    caching.call("cache/clear")
    return caching


def ask(process: Sidecar, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    params = {"model": "pocket", "messages": list(messages), "max_tokens": 24, **more}
    return process.call("generate", params)


def test_the_next_turn_computes_only_what_is_new_and_says_so(process: Sidecar) -> None:
    first = ask(process, SYSTEM, QUESTION, max_tokens=400)
    assert first["finish_reason"] == "stop"
    answer = {"role": "assistant", "content": first["text"]}
    second = ask(process, SYSTEM, QUESTION, answer, {"role": "user", "content": "How do I cancel?"}, explain_cache=True)
    usage = second["usage"]
    assert usage["cached_by_tier"] == {"ram": usage["cached_tokens"], "disk": 0}
    assert usage["cached_tokens"] >= first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"] - 1
    assert second["cache"]["because"] == "new_text"
    assert second["cache"]["where"]["path"] == ["messages", 3, "content"]
    assert "cache" not in first


def test_after_a_restart_the_same_chat_comes_from_disk(tmp_path: Path) -> None:
    options = ("--numerics", "exact", "--cache-dir", str(tmp_path / "cache"))
    with sidecar(*options) as process:
        first = ask(process, SYSTEM, QUESTION)
        while process.call("cache/stats")["disk"]["pending_bytes"]:
            pass
    with sidecar(*options) as process:
        again = ask(process, SYSTEM, QUESTION)
        assert again["text"] == first["text"]
        usage = again["usage"]
        assert usage["cached_by_tier"] == {"ram": 0, "disk": usage["prompt_tokens"] - 1}


def test_a_changed_date_is_found_out(process: Sidecar) -> None:
    ask(process, SYSTEM, QUESTION)
    tomorrow = {**SYSTEM, "content": SYSTEM["content"].replace("27", "28", 1)}
    found = ask(process, tomorrow, QUESTION, explain_cache=True)["cache"]
    assert (found["because"], found["where"]["path"]) == ("date", ["messages", 0, "content"])
    assert found["known_tokens"] < found["prompt_tokens"]


def test_a_prefix_is_warmed_and_pinned(process: Sidecar) -> None:
    warm = process.call("cache/warm", {"model": "pocket", "messages": [SYSTEM]})
    assert warm["pinned_tokens"] == warm["tokens"]
    assert process.call("cache/stats")["ram"]["pinned_bytes"] > 0
    assert ask(process, SYSTEM, QUESTION)["usage"]["cached_tokens"] >= warm["tokens"]
    cleared = process.call("cache/clear", {"model": "pocket"})
    assert cleared["ram_bytes"] > 0
    stats = process.call("cache/stats")
    assert (stats["ram"]["used_bytes"], stats["ram"]["pinned_bytes"], stats["disk"]["used_bytes"]) == (0, 0, 0)
    assert ask(process, SYSTEM, QUESTION)["usage"]["cached_tokens"] == 0


def test_a_conversation_goes_to_a_file_and_comes_back(process: Sidecar, tmp_path: Path) -> None:
    ask(process, SYSTEM, QUESTION)
    path = str(tmp_path / "conversation.safetensors")
    exported = process.call("cache/export", {"model": "pocket", "messages": [SYSTEM, QUESTION], "path": path})
    process.call("cache/clear")
    assert process.call("cache/import", {"model": "pocket", "path": path}) == exported
    assert ask(process, SYSTEM, QUESTION)["usage"]["cached_tokens"] == exported["tokens"]


def test_what_cannot_be_done_names_the_field(process: Sidecar, tmp_path: Path) -> None:
    def fields(method: str, params: dict[str, Any]) -> list[Any]:
        error = process.error(method, {"model": "pocket", **params})
        return [error["data"]["kind"], *(each["loc"] for each in error["data"]["errors"])]

    nothing = str(tmp_path / "nothing")
    assert fields("cache/import", {"path": nothing}) == ["invalid_params", ["path"]]
    assert fields("cache/import", {"path": "here"}) == ["invalid_params", ["path"]]
    assert fields("cache/export", {"prompt": "never seen", "path": nothing}) == ["invalid_params", ["prompt"]]
    assert fields("cache/warm", {}) == ["invalid_params", ["prompt"]]
    assert fields("cache/warm", {"prompt": "a", "tools": []}) == ["invalid_params", ["tools"]]
    too_long = process.error("cache/warm", {"model": "pocket", "tokens": [5] * 9000})
    assert too_long["data"]["kind"] == "context_too_long"


def test_a_warm_up_can_be_cancelled(process: Sidecar) -> None:
    process.call("load", {"model": "pocket"})
    warm = process.request("cache/warm", {"model": "pocket", "tokens": [5, 6, 7] * 2500})
    process.notify("$/cancelRequest", {"id": warm})
    assert process.answer(warm)["error"]["data"]["kind"] == "cancelled"
    assert process.call("cache/stats")["ram"]["pinned_bytes"] == 0


def test_a_warm_up_beyond_its_deadline_is_told_so(process: Sidecar) -> None:
    process.call("load", {"model": "pocket"})
    late = process.error("cache/warm", {"model": "pocket", "tokens": [5, 6, 7] * 2500, "deadline_s": 1e-6})
    assert (late["data"]["kind"], late["data"]["retryable"]) == ("deadline_passed", True)


def test_the_host_is_told_which_tiers_there_are(tmp_path: Path) -> None:
    for options, tiers in (
        ((), {"ram": True, "disk": False}),
        (("--cache-limit-bytes", "0"), {"ram": False, "disk": False}),
        (("--cache-dir", str(tmp_path)), {"ram": True, "disk": True}),
        (("--engine", "fake"), {"ram": False, "disk": False}),
    ):
        with sidecar(*options) as process:
            assert process.initialize()["capabilities"]["cache"] == tiers


def test_a_fake_model_caches_nothing_and_says_so() -> None:
    with pair() as process:
        usage = process.call("generate", {"model": "fake", "prompt": "x"})["usage"]
        assert (usage["cached_tokens"], "fake" in usage["uncached_because"]) == (0, True)
        assert process.call("cache/stats")["models"][0]["cacheable"] is False
        assert process.call("cache/clear") == {"ram_bytes": 0, "disk_bytes": 0}
        assert process.error("cache/warm", {"model": "fake", "prompt": "x"})["data"]["kind"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("refused", "options"),
    [
        ("--cache-dir", ("--cache-dir", "x", "--cache-limit-bytes", "0")),
        ("--cache-disk-limit-bytes", ("--cache-disk-limit-bytes", "1000")),
        ("--cache-dir", ("--engine", "fake", "--cache-dir", "x")),
        ("--cache-limit-bytes", ("--engine", "fake", "--cache-limit-bytes", "1000")),
        ("--kv-cache-dtype", ("--engine", "fake", "--kv-cache-dtype", "float16")),
        ("--activations", ("--engine", "fake", "--activations", "int8")),
        ("--threads", ("--engine", "fake", "--threads", "2")),
    ],
)
def test_what_would_be_ignored_is_refused_on_the_command_line(refused: str, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "mlx_sidecar", "serve", *options]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert ended.returncode == 2
    assert f"argument {refused}:" in ended.stderr


@native_only
def test_keys_and_values_in_float16_take_half_the_room_and_serve_after_a_restart_and_a_death(tmp_path: Path) -> None:
    files = {}
    for dtype in ("auto", "float16"):
        folder = tmp_path / dtype
        options = ("--numerics", "exact", "--cache-dir", str(folder), "--kv-cache-dtype", dtype)
        with sidecar(*options) as process:
            first = ask(process, SYSTEM, QUESTION)
            while process.call("cache/stats")["disk"]["pending_bytes"]:
                pass
            files[dtype] = process.call("cache/stats")["disk"]["used_bytes"]
        with sidecar(*options) as process:
            for kills in (True, False):
                again = ask(process, SYSTEM, QUESTION)
                assert again["text"] == first["text"]
                assert again["usage"]["cached_by_tier"]["disk"] == again["usage"]["prompt_tokens"] - 1
                if kills:
                    os.kill(process.engine_pid(), signal.SIGKILL)
            (card,) = process.call("models")["models"]
            assert ("keys and values in float16" in card["policy"]) == (dtype == "float16")
    assert files["float16"] < 0.6 * files["auto"]


def test_what_was_cached_on_disk_serves_the_engine_after_a_death(process: Sidecar) -> None:
    first = ask(process, SYSTEM, QUESTION)
    while process.call("cache/stats")["disk"]["pending_bytes"]:
        pass
    os.kill(process.engine_pid(), signal.SIGKILL)
    again = ask(process, SYSTEM, QUESTION)
    assert again["text"] == first["text"]
    assert again["usage"]["cached_by_tier"]["disk"] == again["usage"]["prompt_tokens"] - 1
