"""The table of docs/comparison.md has what its program asks, and in our column what the gateway answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from benchmarks.comparison import __main__ as comparison
from benchmarks.comparison import gguf, node_llama_cpp, questions
from benchmarks.comparison.server import Server, carries_text
from mlx_sidecar import pocket
from tests.gateway.gateway_process import gateway_process

PAGE = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
OURS = {
    cells[1]: cells[2] for line in PAGE.splitlines() if len(cells := [each.strip() for each in line.split("|")]) > 3
}
VARIES = {"memory after all of these"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Server]:
    with gateway_process("--model", "pocket") as running:
        pid = running.process.pid
        yield Server(running.url, "pocket", pid, lambda: pid)


@pytest.mark.parametrize("title", questions.QUESTIONS)
def test_the_page_has_a_row_for_each_question(title: str) -> None:
    assert title in OURS


@pytest.mark.parametrize("title", [title for title in questions.QUESTIONS if title not in VARIES])
def test_the_page_says_what_the_gateway_answers(title: str, gateway: Server) -> None:
    question = questions.QUESTIONS[title]
    if question is questions.killed:
        pytest.skip("tests/gateway kills engines below streams, and this gateway is shared")
    assert question(gateway) == OURS[title]


@pytest.mark.parametrize(
    ("calls", "cell"),
    [
        (None, "no call, `length`"),
        ([{"function": {"arguments": '{"name": "Ro'}}], "a part of a call, `length`"),
        ([{"function": {"arguments": '{"name": "Rome"}'}}], "a call, `length`"),
    ],
)
def test_a_call_that_is_cut_off_is_told_from_a_whole_one(
    calls: object, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"choices": [{"finish_reason": "length", "message": {"tool_calls": calls}}]}
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(200, json=answer))
    assert questions.cut_call(Server("http://127.0.0.1", "m", 0, lambda: 0)) == cell


@pytest.mark.parametrize(
    ("delta", "carries"),
    [({"content": "a"}, True), ({"reasoning_content": "a"}, True), ({"role": "assistant", "content": ""}, False)],
)
def test_an_event_carries_text_in_any_channel(delta: dict[str, str], carries: bool) -> None:
    assert carries_text(json.dumps({"choices": [{"delta": delta}]})) is carries
    assert not carries_text("[DONE]")


def test_each_column_has_a_cell_for_each_question() -> None:
    cells = dict.fromkeys(questions.QUESTIONS, "x")
    lines = comparison.table({"one": cells, "two": cells}).splitlines()
    assert len(lines) == 2 + len(questions.QUESTIONS)
    assert {line.count("|") for line in lines} == {4}


def test_the_program_for_a_library_answers_questions_of_the_table() -> None:
    told = node_llama_cpp.PROGRAM.read_text(encoding="utf-8")
    keys = set(node_llama_cpp.KEYS.values()) - {"asked"}
    assert {key for key in keys if f'tell("{key}"' in told} == keys - {"tool", "cut_call", "several", "killed"}


def test_the_embedded_model_as_gguf_has_each_tensor_and_token(tmp_path: Path) -> None:
    import mlx.core as mx

    file = tmp_path / "pocket.gguf"
    gguf.write(file)
    loaded, facts = cast("tuple[dict[str, mx.array], dict[str, Any]]", mx.load(str(file), return_metadata=True))
    ours = cast("dict[str, mx.array]", mx.load(str(pocket.PATH / "model.safetensors")))
    assert loaded.keys() == {gguf.name_in_gguf(name) for name in ours}
    assert len(facts["tokenizer.ggml.tokens"]) == ours["model.embed_tokens.weight"].shape[0]
