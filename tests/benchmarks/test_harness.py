from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.measure import Row
from benchmarks.serving import report
from benchmarks.serving.bench import Outcome
from benchmarks.serving.gguf_model import gguf_name
from benchmarks.serving.load import Run, arriving, burst, closed
from benchmarks.serving.models import VOCABULARY, Prompts, write_tokenizer
from benchmarks.serving.request import ContenderFailed, Request
from benchmarks.serving.scenarios.streams import mixed
from benchmarks.serving.sidecar import Sidecar


def test_prompts_say_the_same_as_text_and_as_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    prompt = Prompts(seed=1).request(500, 8)
    assert tokenizer.encode(prompt.text).ids == prompt.tokens
    assert len(prompt.tokens) == 500


def test_every_token_of_the_random_models_has_a_text(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert all(tokenizer.decode([id_], skip_special_tokens=False) for id_ in range(VOCABULARY))


def test_prompts_differ_and_a_seed_gives_them_again() -> None:
    prompts = Prompts(seed=2)
    first, second = prompts.requests(2, 32, 10)
    assert first.tokens != second.tokens
    assert Prompts(seed=2).requests(2, 32, 10) == [first, second]


def test_answers_are_as_long_as_asked_on_average() -> None:
    lengths = [prompt.max_tokens for prompt in Prompts(seed=3).requests(2000, 1, 64)]
    assert min(lengths) == 32
    assert max(lengths) == 96
    assert sum(lengths) / len(lengths) == pytest.approx(64, rel=0.05)


def test_no_two_mixed_settings_are_alike() -> None:
    assert len({str(mixed(n)) for n in range(32)}) == 32


def test_tensors_get_the_names_that_gguf_has_for_them() -> None:
    assert gguf_name("model.layers.11.self_attn.q_proj.weight") == "blk.11.attn_q.weight"
    assert gguf_name("model.embed_tokens.weight") == "token_embd.weight"


def request(max_tokens: int, **settings: float) -> Request:
    """Make a request for the fake engine, whose tokens are bytes."""
    return Request([72, 105], "Hi", max_tokens, settings)


async def _fake(load: str) -> tuple[Run, int]:
    """Put a load on the fake engine, and return how many requests it had."""
    requests = [request(3 + n) for n in range(6)]
    async with Sidecar("fake?tokens=100", "--engine", "fake") as ours:
        if load == "closed":
            return await closed(ours, 2, requests), len(requests)
        if load == "burst":
            return await burst(ours, requests), len(requests)
        return await arriving(ours, [0.0] * 6, requests, drain_s=60), len(requests)


@pytest.mark.parametrize("load", ["closed", "burst", "open"])
def test_every_request_of_a_load_is_answered_with_all_its_tokens(load: str) -> None:
    run, asked = asyncio.run(_fake(load))
    assert len(run.flights) == asked
    for flight in run.flights:
        assert flight.finish == "length"
        assert flight.completion_tokens == len(flight.tokens) == flight.request.max_tokens
        assert sum(tokens for _, tokens in flight.deltas) == len(flight.tokens)
        assert 0 < flight.first_token_s <= flight.ended_s - flight.sent_s
    assert run.tokens == sum(flight.request.max_tokens for flight in run.flights)
    assert run.tokens_per_s > 0


def test_a_cancelled_flight_is_over() -> None:
    async def cancel() -> str | None:
        async with Sidecar("fake?tokens=5000&delay_ms=20", "--engine", "fake") as ours:
            flight = ours.start(request(5000))
            await flight.first()
            ours.cancel(flight)
            return (await flight.result()).finish

    assert asyncio.run(cancel()) == "cancelled"


def test_a_refused_request_fails_its_load() -> None:
    async def refused() -> None:
        async with Sidecar("fake?tokens=10", "--engine", "fake") as ours:
            await burst(ours, [request(5, top_p=7)])

    with pytest.raises(ExceptionGroup) as found:
        asyncio.run(refused())
    assert found.group_contains(ContenderFailed, match="-32602")


def test_a_scenario_run_again_replaces_its_section_only() -> None:
    def section(title: str, figure: str) -> str:
        return report.section(title, "About it.", "command", "abc", Outcome([Row("what", figure)]))

    order = ["One", "Two", "Three"]
    before = report.merge("", {"Two": section("Two", "2"), "One": section("One", "1")}, order)
    after = report.merge(before, {"Two": section("Two", "22"), "Three": section("Three", "3")}, order)
    assert [line for line in after.splitlines() if line.startswith("## ")] == ["## One", "## Two", "## Three"]
    assert "| what | 1 |" in after
    assert "| what | 2 |" not in after
    assert "| what | 22 |" in after
    assert report.merge(after, {}, order) == after
