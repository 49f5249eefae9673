"""The prefix cache through a real engine process: what is computed, and that it changes no token."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlx_sidecar.link.control_messages import EngineStats, QueryStats
from mlx_sidecar.link.messages import Cancel, Prefill, Submit
from tests.support.engine_process import EngineClient, ready_engine

KINDS = ["qwen3", "sliding", "mamba", "lfm2", "qwen3_5"]
SLACK = 64  # tokens of a block that a conversation may have begun


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., EngineClient]]:
    with ExitStack() as engines:
        yield lambda **config: engines.enter_context(ready_engine(**config))


@pytest.fixture(scope="module")
def engine(start: Callable[..., EngineClient]) -> EngineClient:
    """An engine that caches, and computes the same bits whatever shares a step."""
    return start(numerics="exact")


@pytest.fixture(scope="module")
def forgetful(start: Callable[..., EngineClient]) -> EngineClient:
    """An engine that computes everything."""
    return start(numerics="exact", cache_limit_bytes=0)


def words(count: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(300) for _ in range(count)]


def computed(engine: EngineClient) -> int:
    """Tokens of prompts that were not cached, since the engine started."""
    op = engine.number()
    engine.send(QueryStats(op))
    counters = engine.wait(EngineStats, lambda message: message.op == op).counters
    return counters["prompt_tokens"] - counters["cached_tokens"]


@pytest.fixture(params=KINDS)
def model(engine: EngineClient, forgetful: EngineClient, random_models: Path, request: pytest.FixtureRequest) -> str:
    for client in (engine, forgetful):
        client.load(request.param, str(random_models / request.param))
    kind: str = request.param
    return kind


def test_the_next_turn_of_a_chat_computes_only_what_is_new(
    engine: EngineClient, forgetful: EngineClient, model: str
) -> None:
    history = words(100, seed=1)
    for turn in range(4):
        before = computed(engine)
        answer = engine.generate(model, history, 30)
        new = computed(engine) - before
        assert answer == forgetful.generate(model, history, 30)
        if turn:
            assert new <= 20 + 2  # the new message, and the last token of the answer, whose keys had not been computed
        history = history + answer + words(20, seed=10 + turn)


def test_chats_that_begin_alike_at_the_same_moment_compute_the_beginning_once(
    engine: EngineClient, forgetful: EngineClient, model: str
) -> None:
    system = words(640, seed=2)
    prompts = [system + words(40, seed=100 + chat) for chat in range(8)]
    before = computed(engine)
    chats = [engine.submit(model, prompt, 12) for prompt in prompts]
    answers = [engine.tokens(chat) for chat in chats]
    assert computed(engine) - before <= 640 + 8 * (40 + SLACK)
    assert answers == [forgetful.generate(model, prompt, 12) for prompt in prompts]


def test_when_the_one_that_computes_is_cancelled_another_goes_on_with_what_it_had(
    engine: EngineClient, forgetful: EngineClient, model: str
) -> None:
    prompt = words(1500, seed=3)
    before = computed(engine)
    first, second, third = (engine.submit(model, [*prompt, n], 5) for n in range(3))
    engine.send(Cancel(first))
    expected = [forgetful.generate(model, [*prompt, n], 5) for n in (1, 2)]
    assert [engine.tokens(second), engine.tokens(third)] == expected
    assert computed(engine) - before <= 2 * 1500 + 3 * SLACK


def test_everything_that_begins_at_a_block_or_beside_one_is_the_same_warm_and_cold(
    engine: EngineClient, forgetful: EngineClient, model: str
) -> None:
    trunk = words(330, seed=4)
    engine.generate(model, trunk, 1)
    for cut in [1, 16, 63, 64, 65, 127, 128, 192, 200, 256, 319, 320, 330]:
        prompt = trunk[:cut] + words(20, seed=cut)
        assert engine.generate(model, prompt, 8) == forgetful.generate(model, prompt, 8), cut


def test_models_whose_caches_cannot_be_kept_say_so(engine: EngineClient, random_models: Path) -> None:
    engine.load("llama4", str(random_models / "llama4"))
    prompt = words(200, seed=5)
    ends = [engine.finished(engine.submit("llama4", prompt, 4)) for _ in range(2)]
    assert [end.cached_tokens for end in ends] == [0, 0]
    assert "ChunkedKVCache" in ends[1].uncacheable


def test_a_prompt_is_pinned_and_stays_whatever_comes(start: Callable[..., EngineClient], random_models: Path) -> None:
    engine = start(cache_limit_bytes=600_000)
    engine.load("qwen3", str(random_models / "qwen3"))
    pinned = words(200, seed=6)
    warm = engine.number()
    engine.send(Submit(warm, "qwen3", pinned, Prefill(pin=True)))
    assert engine.finished(warm).pinned == 200
    assert engine.tokens(warm) == []  # it asked for none
    for seed in range(7, 20):
        engine.generate("qwen3", words(300, seed), 4)
    assert engine.finished(engine.submit("qwen3", [*pinned, 1, 2, 3], 4)).cached_tokens == 200


def test_a_pin_for_which_there_is_no_room_is_refused(start: Callable[..., EngineClient], random_models: Path) -> None:
    engine = start(cache_limit_bytes=300_000)
    engine.load("qwen3", str(random_models / "qwen3"))
    warm = engine.number()
    engine.send(Submit(warm, "qwen3", words(3000, seed=6), Prefill(pin=True)))
    fault = engine.finished(warm).fault
    assert fault is not None
    assert fault.kind == "out_of_memory"


def test_where_a_prompt_left_the_nearest_known_one_is_told(engine: EngineClient, random_models: Path) -> None:
    engine.load("qwen3", str(random_models / "qwen3"))
    known = words(300, seed=8)
    engine.generate("qwen3", known, 1)
    other = [*known[:150], (known[150] + 1) % 300, *known[151:]]
    nearest = engine.finished(engine.submit("qwen3", other, 1, explain=True)).nearest
    assert nearest is not None
    assert nearest.common == 150
    assert nearest.tokens == known[nearest.start : nearest.start + len(nearest.tokens)]
    assert nearest.start < 150 < nearest.start + len(nearest.tokens)


def test_where_two_prompts_were_seen_to_part_the_third_goes_on(
    engine: EngineClient, forgetful: EngineClient, model: str
) -> None:
    trunk = words(200, seed=20)
    prompts = [trunk + words(300, seed=30 + n) for n in range(3)]
    ends = [engine.finished(engine.submit(model, prompt, 1)) for prompt in prompts]
    assert ends[2].cached_tokens >= 192
    assert engine.generate(model, prompts[2], 8) == forgetful.generate(model, prompts[2], 8)
