"""The real engine over a real link, with tiny random models; --numerics exact, so tokens are compared as they are."""

from __future__ import annotations

import random

import pytest

from mlx_sidecar.link.control_messages import EngineStats, QueryStats
from mlx_sidecar.link.messages import Cancel, Finished, Generate, Sampling, Submit
from tests.support.engine_process import EngineClient

KINDS = ["qwen3", "llama", "sliding", "mamba", "lfm2", "qwen3_5", "llama4"]
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0, seed=1),
    Sampling(temperature=0.7, top_k=20, seed=2),
    Sampling(temperature=1.3, top_p=0.8, seed=3),
    Sampling(temperature=1.0, min_p=0.05, repetition_penalty=1.3, seed=4),
    Sampling(temperature=0.9, presence_penalty=0.5, frequency_penalty=0.3, logit_bias={7: 2.0, 9: -50.0}, seed=5),
    Sampling(repetition_penalty=1.5),
    Sampling(temperature=1.0, top_k=40, top_p=0.9, min_p=0.01, seed=2**63 - 1),
]


def prompts(count: int, longest: int = 90) -> list[list[int]]:
    numbers = random.Random(11)
    return [[numbers.randrange(300) for _ in range(numbers.randint(1, longest))] for _ in range(count)]


def stats(engine: EngineClient) -> EngineStats:
    op = engine.number()
    engine.send(QueryStats(op))
    answer = engine.reply(op)
    assert isinstance(answer, EngineStats)
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_has_the_same_tokens_in_a_batch_as_alone(exact_engine: EngineClient, kind: str) -> None:
    requests = list(zip(prompts(16), SAMPLINGS * 2, strict=True))
    alone = [exact_engine.generate(kind, prompt, 24, sampling=sampling) for prompt, sampling in requests]
    together = [exact_engine.submit(kind, prompt, 24, sampling=sampling) for prompt, sampling in requests]
    assert [exact_engine.tokens(seq) for seq in together] == alone


@pytest.mark.parametrize("kind", KINDS)
def test_joins_and_leaves_do_not_change_the_tokens_of_who_stays(exact_engine: EngineClient, kind: str) -> None:
    [stayer, *others] = prompts(6, longest=40)
    sampling = Sampling(temperature=1.0, seed=9)
    alone = exact_engine.generate(kind, stayer, 80, sampling=sampling)
    staying = exact_engine.submit(kind, stayer, 80, sampling=sampling)
    for other in others:
        exact_engine.wait_tokens(staying)
        leaver = exact_engine.submit(kind, other, 400)
        exact_engine.wait_tokens(leaver)
        exact_engine.send(Cancel(leaver))
        assert exact_engine.finished(leaver).reason == "cancelled"
    assert exact_engine.tokens(staying) == alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_replayed_sequence_continues_with_the_same_tokens(
    exact_engine: EngineClient, kind: str, sampling: Sampling
) -> None:
    prompt = prompts(1)[0]
    whole = exact_engine.generate(kind, prompt, 20, sampling=sampling)
    rest = exact_engine.generate(kind, prompt + whole[:7], 20, sampling=sampling, emitted=7)
    assert whole[:7] + rest == whole


def test_a_long_prompt_has_the_same_tokens_in_chunks_of_any_size(exact_engine: EngineClient) -> None:
    long, *short = prompts(1, 1) + prompts(5)
    long = [token % 300 for token in range(1500)]
    alone = exact_engine.generate("qwen3", long, 8)
    crowd = [exact_engine.submit("qwen3", prompt, 8) for prompt in [*short, long]]
    assert exact_engine.tokens(crowd[-1]) == alone


def test_sequences_of_several_models_run_side_by_side(exact_engine: EngineClient) -> None:
    alone = {kind: exact_engine.generate(kind, [1, 2, 3], 30) for kind in KINDS}
    running = {kind: exact_engine.submit(kind, [1, 2, 3], 30) for kind in KINDS}
    assert {kind: exact_engine.tokens(seq) for kind, seq in running.items()} == alone


def test_several_sequences_decode_in_one_step(exact_engine: EngineClient) -> None:
    before = stats(exact_engine).counters
    sent = [Submit(exact_engine.number(), "qwen3", [seed], Generate(Sampling(), [], 40)) for seed in range(1, 11)]
    exact_engine.send(*sent)
    for submit in sent:
        assert len(exact_engine.tokens(submit.seq)) == 40
    after = stats(exact_engine).counters
    assert after["completion_tokens"] - before["completion_tokens"] == 400
    assert after["steps"] - before["steps"] < 60


def test_a_stop_token_ends_the_sequence_and_is_not_sent(exact_engine: EngineClient) -> None:
    tokens = exact_engine.generate("lfm2", [1, 2, 3], 20)
    stop = tokens[4]
    seq = exact_engine.submit("lfm2", [1, 2, 3], 20, stop_tokens=[stop, 299])
    assert exact_engine.finished(seq).reason == "stop"
    assert exact_engine.tokens(seq) == tokens[: tokens.index(stop)]


def test_a_first_token_that_stops_leaves_no_tokens(exact_engine: EngineClient) -> None:
    seq = exact_engine.submit("qwen3", [1], 20, stop_tokens=list(range(300)))
    finished = exact_engine.finished(seq)
    assert (finished.reason, finished.started) == ("stop", True)
    assert exact_engine.tokens(seq) == []


def test_timing_tells_where_the_time_went(exact_engine: EngineClient) -> None:
    timing = exact_engine.finished(exact_engine.submit("qwen3", [1, 2, 3], 10)).timing
    assert timing.queue_s >= 0
    assert timing.prefill_s > 0
    assert timing.decode_s > 0


def test_cancel_ends_a_waiting_sequence_before_it_started(exact_engine: EngineClient) -> None:
    running = [exact_engine.submit("qwen3", [1], 4000) for _ in range(32)]
    waiting = exact_engine.submit("qwen3", [1], 4000)
    exact_engine.wait_tokens(running[-1])
    exact_engine.send(Cancel(waiting), *map(Cancel, running))
    assert (exact_engine.finished(waiting).reason, exact_engine.finished(waiting).started) == ("cancelled", False)
    for seq in running:
        assert (exact_engine.finished(seq).reason, exact_engine.finished(seq).started) == ("cancelled", True)


def test_cancel_is_idempotent_and_never_answers_twice(exact_engine: EngineClient) -> None:
    seq = exact_engine.submit("qwen3", [1], 4000)
    exact_engine.wait_tokens(seq)
    exact_engine.send(Cancel(seq), Cancel(seq), Cancel(987654))
    exact_engine.finished(seq)
    stats(exact_engine)  # answered after whatever the other cancels might have caused
    assert sum(isinstance(message, Finished) and message.seq == seq for message in exact_engine.seen) == 1


def test_after_its_cancel_is_answered_a_sequence_sends_nothing(exact_engine: EngineClient) -> None:
    seq = exact_engine.submit("qwen3", [1], 4000)
    exact_engine.wait_tokens(seq)
    exact_engine.send(Cancel(seq, "deadline"))
    assert exact_engine.finished(seq).reason == "deadline"
    stats(exact_engine)
    of_it = [message for message in exact_engine.seen if getattr(message, "seq", None) == seq]
    assert isinstance(of_it[-1], Finished)


@pytest.mark.parametrize(
    ("tokens", "sampling", "kind"),
    [
        ([], Sampling(), "invalid_params"),
        ([300], Sampling(), "invalid_params"),
        ([-1], Sampling(), "invalid_params"),
        ([1], Sampling(logit_bias={300: 1.0}), "invalid_params"),
        ([1] * 4096, Sampling(), "context_too_long"),
    ],
)
def test_what_cannot_be_decoded_is_refused_before_it_starts(
    exact_engine: EngineClient, tokens: list[int], sampling: Sampling, kind: str
) -> None:
    finished = exact_engine.finished(exact_engine.submit("qwen3", tokens, sampling=sampling))
    assert (finished.reason, finished.started) == ("error", False)
    assert finished.fault is not None
    assert finished.fault.kind == kind


def test_a_sequence_for_a_model_that_is_not_loaded_is_refused(exact_engine: EngineClient) -> None:
    finished = exact_engine.finished(exact_engine.submit("nobody", [1]))
    assert finished.fault is not None
    assert finished.fault.kind == "model_not_loaded"


def test_a_sequence_ends_where_the_context_does(exact_engine: EngineClient) -> None:
    seq = exact_engine.submit("qwen3", [1] * 4090, 100)
    assert exact_engine.finished(seq).reason == "length"
    assert len(exact_engine.tokens(seq)) == 6


def test_a_replay_of_all_there_was_to_say_ends_at_once(exact_engine: EngineClient) -> None:
    finished = exact_engine.finished(exact_engine.submit("qwen3", [1, 5, 5, 5], 3, emitted=3))
    assert (finished.reason, finished.started) == ("length", False)


def test_a_forced_bias_beats_every_penalty(exact_engine: EngineClient) -> None:
    sampling = Sampling(
        temperature=1.5, repetition_penalty=2.0, presence_penalty=2.0, frequency_penalty=1.0, logit_bias={42: 100.0}
    )
    assert exact_engine.generate("qwen3", [42, 1], 20, sampling=sampling) == [42] * 20


def test_penalties_make_an_answer_repeat_itself_less(exact_engine: EngineClient) -> None:
    plain = exact_engine.generate("qwen3", [1, 2, 3, 4], 40)
    for sampling in (Sampling(repetition_penalty=3.0), Sampling(frequency_penalty=2.0), Sampling(presence_penalty=2.0)):
        assert len(set(exact_engine.generate("qwen3", [1, 2, 3, 4], 40, sampling=sampling))) > len(set(plain))
