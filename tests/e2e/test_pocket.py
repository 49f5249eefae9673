"""The real engine with the real (tiny) model: a newcomer's first steps, and the promises that hold bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_sidecar import pocket
from tests.support.byte_host import PATIENCE_S
from tests.support.forwards import native_only
from tests.support.frames import check_outgoing
from tests.support.sidecar import ROOT, Sidecar, sidecar
from tests.support.streamed import assert_whole

MLX_SIDECAR = (sys.executable, "-m", "mlx_sidecar")
QUESTIONS = (
    "What is mlx-sidecar?",
    "How do I load a model?",
    "How do I cancel a request?",
    "What is a stream?",
    "Which backends does it run on?",
    "What is the capital of France?",
    "Hello",
    "Count to five.",
)


@pytest.fixture(scope="module")
def exact() -> Iterator[Sidecar]:
    """One engine with exact arithmetic for all tests that compare tokens."""
    with sidecar("--numerics", "exact") as process:
        process.call("load", {"model": "pocket"})
        yield process


def requests(sampling: dict[str, Any]) -> list[dict[str, Any]]:
    """Sixteen requests of different lengths and kinds; those that sample have seeds and settings of their own."""
    asked = [
        {"model": "pocket", "messages": [{"role": "user", "content": question}], "max_tokens": 10 + 6 * n}
        for n, question in enumerate(QUESTIONS)
    ]
    continued = [
        {"model": "pocket", "prompt": question * (n + 1), "max_tokens": 30} for n, question in enumerate(QUESTIONS)
    ]
    return [
        {**params, **{name: value + n if name == "seed" else value for name, value in sampling.items()}}
        for n, params in enumerate(asked + continued)
    ]


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 1.0, "seed": 1},
        {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.02, "seed": 100},
        {"temperature": 0.7, "repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.2, "seed": 7},
    ],
    ids=["greedy", "seeded", "filtered", "penalised"],
)
def test_sixteen_requests_at_once_give_each_what_it_gives_alone(exact: Sidecar, sampling: dict[str, Any]) -> None:
    alone = [exact.call("generate", params) for params in requests(sampling)]
    ids = [exact.request("generate", params) for params in requests(sampling)]
    together = [exact.result(id_) for id_ in ids]
    assert [result["tokens"] for result in together] == [result["tokens"] for result in alone]
    assert [result["text"] for result in together] == [result["text"] for result in alone]


def test_requests_at_once_really_decode_together(exact: Sidecar) -> None:
    before = exact.call("stats")["counters"]
    ids = [
        exact.request("generate", {"model": "pocket", "prompt": "One", "max_tokens": 40, "ignore_eos": True})
        for _ in range(8)
    ]
    for id_ in ids:
        assert exact.result(id_)["usage"]["completion_tokens"] == 40
    after = exact.call("stats")["counters"]
    assert after["completion_tokens"] - before["completion_tokens"] == 8 * 40
    assert after["steps"] - before["steps"] < 3 * 40


@native_only
def test_exact_arithmetic_says_so(exact: Sidecar) -> None:
    stats = exact.call("stats")
    (card,) = exact.call("models")["models"]
    assert stats["engine"]["numerics"] == "exact"
    # Native code where it is built, else the shim's kernels, else those of the library.
    assert "not_native" not in card
    assert card["forward"] == "native"
    assert card["policy"].endswith("kernels, weights as stored, sums in float32")
    assert any(word in stats["engine"]["policy"] for word in ("invariant", "reference"))


def test_a_streamed_chat_ends_by_itself_and_its_deltas_add_up() -> None:
    with sidecar() as process:
        messages = [{"role": "user", "content": "What is mlx-sidecar?"}]
        result = process.call("generate", {"model": "pocket", "messages": messages, "stream": "chat"})
        assert result["finish_reason"] == "stop"
        assert "engine" in result["text"]
        assert "<|im_end|>" not in result["text"]
        assert_whole(process.deltas("chat"), result)
        timing = result["timing"]
        assert timing["first_token_s"] >= timing["prefill_s"] > 0
        assert timing["load_s"] > 0


def test_the_three_kinds_of_prompt_come_to_the_same(exact: Sidecar) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    rendered = exact.call("render", {"model": "pocket", "messages": messages})
    results = [
        exact.call("generate", {"model": "pocket", "max_tokens": 20, **source})
        for source in ({"messages": messages}, {"prompt": rendered["text"]}, {"tokens": rendered["tokens"]})
    ]
    assert len({result["text"] for result in results}) == 1


def test_logit_bias_forces_a_token(exact: Sidecar) -> None:
    token = exact.call("tokenize", {"model": "pocket", "text": "z"})["tokens"][0]
    params = {"model": "pocket", "prompt": "x", "logit_bias": {str(token): 100}, "max_tokens": 3}
    assert exact.call("generate", params)["tokens"] == [token] * 3


def test_a_cancel_in_the_middle_of_a_long_prefill_is_heard(exact: Sidecar) -> None:
    other = exact.request(
        "generate", {"model": "pocket", "prompt": "x", "max_tokens": 200, "ignore_eos": True, "stream": "other"}
    )
    exact.notification("stream/delta", stream="other")
    long = exact.request("generate", {"model": "pocket", "tokens": [7] * 8000, "max_tokens": 5})
    exact.notify("$/cancelRequest", {"id": long})
    answer = exact.answer(long)
    assert answer.get("error", {}).get("code") == -32800 or answer["result"]["finish_reason"] == "cancelled"
    assert exact.result(other)["usage"]["completion_tokens"] == 200


def test_the_model_can_be_unloaded_and_comes_back_when_it_is_asked_for(shared: Sidecar) -> None:
    shared.call("load", {"model": "pocket"})
    assert shared.call("unload", {"model": "pocket"})["freed_bytes"] > 0
    assert "pocket" not in [card["model"] for card in shared.call("models")["models"]]
    assert shared.call("generate", {"model": "pocket", "prompt": "Hello"})["text"]


def test_a_model_that_is_loaded_has_left_nothing_of_its_loading_behind(shared: Sidecar) -> None:
    shared.call("load", {"model": "pocket"})
    shared.call("unload", {"model": "pocket"})
    shared.call("load", {"model": "pocket"})
    assert shared.call("stats")["memory"]["cache_bytes"] == 0


def test_a_local_directory_is_a_model_under_its_path_or_any_name(shared: Sidecar) -> None:
    card = shared.call("load", {"model": "mine", "path": str(pocket.PATH)})
    assert (card["model"], card["state"]) == ("mine", "ready")
    assert shared.call("generate", {"model": "mine", "prompt": "Hello", "max_tokens": 5})["text"]
    assert shared.call("generate", {"model": str(pocket.PATH), "prompt": "Hello", "max_tokens": 5})["text"]
    error = shared.error("load", {"model": "mine", "path": "/no/such/directory"})
    assert error["data"]["errors"][0]["loc"] == ["path"]


def test_a_hub_model_that_cannot_be_reached_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with sidecar() as process:
        for method in ("load", "generate"):
            params = {"prompt": "x"} if method == "generate" else {}
            error = process.error(method, {"model": "nobody/no-such-model", **params})
            assert (error["code"], error["data"]["kind"]) == (-32001, "model_not_found")
            assert "hub" in error["message"]


def test_the_shell_line_of_the_readme_prints_the_answer_and_exits_0() -> None:
    line = '{"jsonrpc":"2.0","id":1,"method":"generate","params":{"model":"pocket","prompt":"Hello"}}\\n'
    command = f"printf '{line}' | {' '.join(MLX_SIDECAR)} serve"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, cwd=ROOT, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    (answer,) = [json.loads(line) for line in done.stdout.splitlines()]
    check_outgoing(answer)
    assert answer["result"]["finish_reason"] == "stop"
    assert answer["result"]["text"]


def test_the_command_line_generates_chats_and_examines_itself() -> None:
    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [*MLX_SIDECAR, *arguments], input=stdin, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "engine" in run("generate", "pocket", "What is mlx-sidecar?", "--chat")
    assert run("generate", "pocket", "--max-tokens", "4", stdin="Hello")
    assert "engine" in run("chat", stdin="What is mlx-sidecar?\n")
    report = run("doctor")
    assert all(word in report for word in ("backend", "arithmetic", "mlx-lm", "self-test"))
    assert "serve" in run("--help")


def test_the_demo_streams_its_answers() -> None:
    done = subprocess.run(
        [sys.executable, "tools/demo.py"], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=True
    )
    assert "> What is mlx-sidecar?" in done.stdout
    assert "tokens/s" in done.stderr
