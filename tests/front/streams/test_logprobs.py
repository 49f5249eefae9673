"""Log-probabilities of a stream: one entry for each token, in step with the tokens, in frames of bounded size."""

from __future__ import annotations

import json
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mlx_sidecar.front.logprobs_json import logprobs_json
from mlx_sidecar.front.streams.logprobs import Logprobs
from mlx_sidecar.link.messages import TokenLogprob
from mlx_sidecar_protocol.generate_result import Logprob
from tests.support.streams import FAKE, Bench, on_loop

ENTRIES = TypeAdapter(list[Logprob])


def entries(tokens: bytes, alternatives: int = 2) -> list[TokenLogprob]:
    """As an engine might say them: the chosen token is the likeliest."""
    return [
        TokenLogprob(-0.5 * token, [((token + n) % 256, -0.5 * token - n) for n in range(alternatives)])
        for token in tokens
    ]


def logprobs(alternatives: int = 2) -> Logprobs:
    return Logprobs(alternatives, FAKE.token_texts)


@given(
    st.lists(st.tuples(st.binary(max_size=8), st.booleans()), max_size=30),
    st.integers(0, 20),
    st.sampled_from(["", "b"]),
)
def test_each_token_of_each_delta_has_its_entry_however_tokens_and_reads_interleave(
    parts: list[tuple[bytes, bool]], alternatives: int, stop: str
) -> None:
    def test() -> None:
        bench = Bench([stop] if stop else [], logprobs=logprobs(alternatives))
        deltas = []
        for tokens, read in parts:
            bench.say(tokens, logprobs=entries(tokens, alternatives))
            deltas += bench.deltas() if read else []
        bench.finish()
        deltas += bench.deltas()
        for delta in deltas:
            assert [entry["token"] for entry in delta["logprobs"]] == delta["tokens"]
            assert all(entry["logprob"] == -0.5 * entry["token"] for entry in delta["logprobs"])
            assert all(len(entry["top"]) == alternatives for entry in delta["logprobs"])
        everything = bench.stream.transcript.tokens
        assert [token for delta in deltas for token in delta["tokens"]] == everything
        assert bench.stream.logprobs is not None
        whole = list(bench.stream.logprobs.entries(everything))
        assert [entry for delta in deltas for entry in delta["logprobs"]] == whole

    on_loop(test)


def test_a_catch_up_with_all_alternatives_comes_in_frames_of_bounded_size_with_text_and_tokens_in_step() -> None:
    def test() -> None:
        bench = Bench(logprobs=logprobs(20))
        text = b"the quick brown fox " * 20
        for token in text:
            bench.say(bytes([token]), logprobs=entries(bytes([token]), 20))
        bodies = bench.mailbox.drain(1 << 30)
        deltas = [json.loads(body)["params"] for body in bodies]
        assert len(deltas) > 1
        assert max(map(len, bodies)) < 64 * 1024
        assert all(delta["text"].encode() == bytes(delta["tokens"]) for delta in deltas)
        assert "".join(delta["text"] for delta in deltas).encode() == text

    on_loop(test)


def test_the_entries_are_what_the_contract_says() -> None:
    kept = logprobs()
    kept.append([TokenLogprob(-1.5, [(256, -0.25), (0xC3, -1.5)]), TokenLogprob(-inf, [])])
    first, second = json.loads(logprobs_json(kept.entries([0xC3, 0x41])))
    entry = ENTRIES.validate_python([first])[0]
    assert (entry.token, entry.text, entry.logprob) == (0xC3, "\ufffd", -1.5)
    assert [(other.token, other.text, other.logprob) for other in entry.top] == [
        (256, "", -0.25),
        (195, "\ufffd", -1.5),
    ]
    assert second == {"token": 0x41, "text": "A", "logprob": None, "top": []}  # null is minus infinity


def test_nothing_is_said_of_log_probabilities_that_nobody_asked_for() -> None:
    def test() -> None:
        bench = Bench()
        bench.say(b"x")
        assert "logprobs" not in bench.deltas()[0]

    on_loop(test)


def test_a_stream_that_is_read_from_the_middle_has_the_entries_of_the_middle() -> None:
    def test() -> None:
        bench = Bench(logprobs=logprobs())
        for token in b"abc":
            bench.say(bytes([token]), logprobs=entries(bytes([token])))
            bench.deltas()
        bench.streams.rewind(bench.stream, 0)
        (again,) = bench.deltas()
        assert [entry["text"] for entry in again["logprobs"]] == ["b", "c"]

    on_loop(test)
