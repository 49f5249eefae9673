"""The harness of benchmarks.llama with contenders that only pretend, so without a network and in no time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks.llama import chats, plots, report
from benchmarks.llama.contender import Contender, started
from benchmarks.llama.contender_copy import Copy
from benchmarks.llama.contender_rpc import OverPipes
from benchmarks.llama.groups import Asked, Group
from benchmarks.llama.measuring import Sitting, measure
from benchmarks.llama.samples import Chat, Key, Samples
from benchmarks.llama.work import InProcess, Times, Work, prompt
from benchmarks.serving.http_servers import MlxLmServer
from benchmarks.serving.request import ContenderFailed
from benchmarks.serving.sidecar import Sidecar

if TYPE_CHECKING:
    from mlx_sidecar_client import SyncSidecar

PRETENDER = "tests.benchmarks.llama_pretender"
MACHINE = "a machine"
WORKS = {"8": Work(8, 4), "16": Work(16, 4, rows=2)}


def pretender(name: str, **options: float) -> Contender:
    return Contender(name, PRETENDER, options)


def group(*contenders: Contender) -> Group:
    asked = [
        Asked("8", "decode", "ours", ("slow", "peer"), 2.0),
        Asked("8", "prefill", "ours", ("peer",), 8.0),
        Asked("16", "decode", "ours", ("absent",), 1.0),
        Asked("16", "decode", "ours", ("nobody",)),
    ]
    return Group("Pretenders.", contenders, WORKS, asked, axis="rows", within_s=5.0)


def test_a_group_is_measured_in_turns_and_told_by_ratios_speeds_and_pictures(tmp_path: Path) -> None:
    sides = (pretender("ours", speed=8.0), pretender("peer", speed=2.0), pretender("slow", speed=1.0))
    made = group(*sides, pretender("absent", status=3))
    samples, saved = Samples(MACHINE), list[int]()
    measure(made, samples, Sitting("some", 2, 1.0, print, lambda: saved.append(len(samples.rounds))))
    assert saved == [4, 4]

    assert samples.absent == {"absent": "absent ended: this one does not start"}
    assert [set(round_) for round_ in samples.rounds[Key("some", "8", "decode")]] == [{"ours", "peer", "slow"}] * 2
    text = report.section("some", made, samples)
    assert "| 8, decode: ours against peer | 4.00× (4.00 to 4.00); 8.0 against 2.0 tok/s | ≥ 2× |" in text
    assert "| 8, prefill: ours against peer | 4.00× (4.00 to 4.00); 80.0 against 20.0 tok/s | ≥ 8× (not met) |" in text
    assert "| 16, decode: ours against absent | not measured | ≥ 1× |" in text
    assert "nobody" not in text
    assert "| slow | 10.0 (10.0 to 10.0) | 1.0 (1.0 to 1.0) | 20.0 (20.0 to 20.0) | 2.0 (2.0 to 2.0) |" in text
    assert "Not measured: absent ended: this one does not start" in text
    assert plots.by_axis("some", made, samples, "decode")["ours"] == {8: 8.0, 16: 16.0}


def test_further_rounds_are_added_to_those_in_the_file_unless_it_is_of_another_machine(tmp_path: Path) -> None:
    file = tmp_path / "samples.json"
    for speed in (2.0, 4.0):
        samples = Samples.read(file, MACHINE)
        samples.add("some", "work", WORKS["8"], {"ours": Times(8 / speed, None)})
        samples.facts["ours"] = {"forward": "native"}
        samples.chats.setdefault("chats", []).append({"ours": Chat(speed, 0.5, [0.1, 0.2])})
        samples.write(file)
    again = Samples.read(file, MACHINE)
    assert again == samples
    assert again.speeds(Key("some", "work", "prefill"), "ours") == [2.0, 4.0]
    with pytest.raises(ValueError, match="was measured on a machine"):
        Samples.read(file, "another machine")
    assert {each["unit"] for each in json.loads(file.read_text())["figures"]} == {"tokens/s"}


def test_chats_are_compared_by_speed_and_the_slowest_first_token() -> None:
    ours, peer = Sidecar.name, MlxLmServer.name
    round_ = {ours: Chat(300.0, 0.5, [0.1, 0.2]), peer: Chat(100.0, 2.0, [0.3])}
    rows = [(row.figure, row.asked) for row in chats.rows([round_, {ours: round_[ours]}, round_])]
    assert rows == [
        ("3.00× (3.00 to 3.00); 300 against 100 tok/s", "≥ 2×"),
        ("0.25× (0.25 to 0.25); 500 ms against 2000 ms", "≤ 0.3×"),
        ("300 tok/s, worst first token 500 ms, gaps p50 100 ms, p99 200 ms", ""),
        ("100 tok/s, worst first token 2000 ms, gaps p50 300 ms, p99 300 ms", ""),
    ]


def test_after_the_first_no_round_begins_that_would_end_too_late() -> None:
    samples, told = Samples(MACHINE), list[str]()
    sitting = Sitting("some", 5, 1e-6, told.append, lambda: None)
    measure(Group("", [pretender("ours")], {"8": WORKS["8"]}), samples, sitting)
    assert told[-1] == "some: no time for a round 2 of 5 in 1e-06 minutes"
    assert len(samples.rounds[Key("some", "8", "decode")]) == 1


def test_a_contender_that_hangs_is_left_out_and_ended() -> None:
    late = pytest.raises(ContenderFailed, match=r"idle did not answer within 0\.05 s")
    with started(pretender("idle", sleep=60.0)) as side, late:
        side.measure(Work(1), 1, 0.05)


class Counting:
    """An engine whose next token is the length of the row."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.length = 0

    def begin(self, rows: int, room: int) -> None:
        self.begun.append((rows, room))

    def prefill(self, prompts: Sequence[list[int]]) -> list[int]:
        self.length = len(prompts[0])
        return [self.length] * len(prompts)

    def step(self, tokens: list[int]) -> list[int]:
        assert tokens == [self.length] * len(tokens)
        self.length += 1
        return [self.length] * len(tokens)


def test_rows_begin_anew_in_each_round_unless_they_are_kept() -> None:
    engine = Counting()
    measured = InProcess(engine)
    anew, kept = Work(4, 3), Work(4, 3, kept=True)
    assert all(measured.measure(anew, number).prefill_s is not None for number in (1, 2))
    assert engine.length == 7
    assert [measured.measure(kept, number).prefill_s is None for number in (1, 2, 3)] == [False, True, True]
    assert engine.length == 4 + 3 * 3
    assert engine.begun[:2] == [(1, 7)] * 2
    assert len(engine.begun) == 3


def test_prompts_of_different_rounds_share_no_beginning() -> None:
    assert prompt(3, 1)[0] != prompt(3, 2)[0]
    assert len(prompt(5000, 1)) == 5000


class Piped:
    """A sidecar whose answers come at once."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def generate(self, model: str, *, tokens: list[int], max_tokens: int, **settings: object) -> Iterator[Any]:
        self.asked.append(tokens)
        return iter([SimpleNamespace(tokens=[1] * max_tokens)])


@pytest.mark.parametrize("warm", [False, True])
def test_prompts_over_pipes_are_new_in_each_round_or_cached_before_the_first(warm: bool) -> None:
    sidecar = Piped()
    measured = OverPipes(cast("SyncSidecar", sidecar), "m", warm=warm)
    for number in (1, 2):
        assert measured.measure(Work(64), number).decode_s is None
    assert sidecar.asked == [prompt(64, number) for number in ((0, 0, 0) if warm else (1, 2))]


def test_a_copy_is_of_all_that_the_prompts_have() -> None:
    copied = Copy(8)
    times = copied.measure(Work(16, rows=2), 1)
    assert copied.size_bytes == 16 * 2 * 8
    assert times.decode_s is None


def test_attention_takes_over_in_long_prompts() -> None:
    config = {
        "hidden_size": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 8,
        "num_hidden_layers": 3,
        "vocab_size": 10,
    }
    # A layer has 48 weights in attention's projections and 96 in the others; then a row of the head, and the scores.
    assert report.multiplications(config, 1) == 3 * 144 + 40 + 3 * 4 * 2
    assert report.multiplications(config, 100) == 3 * 144 * 100 + 40 + 3 * 4 * 100 * 101
