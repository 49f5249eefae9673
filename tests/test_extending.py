"""A part of each kind can be added as docs/extending.md says: a toy of each is added that way, and works.

The page shows the toys as they stand here; the rest of this file is in the page's order.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import groupby
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest

from mlx_sidecar.engine.core.preparer import Preparer
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.sampler import FACTORIES, ProcessorFactory
from mlx_sidecar.engine.fake.fake_engine import FakeBackend
from mlx_sidecar.engine.inbox import Background
from mlx_sidecar.engine.resident_models import LoadedModel, LoadStep
from mlx_sidecar.front.api.sink import Sink
from mlx_sidecar.front.channels import REASONING, TEXT
from mlx_sidecar.front.output.parser import Outcome, Segment
from mlx_sidecar.front.streams.journal import TOKEN_BYTES
from mlx_sidecar.front.streams.task import EngineTask
from mlx_sidecar.front.wire.dispatcher import Method
from mlx_sidecar.link.codec import Decoder, Unreadable, encode
from mlx_sidecar.link.control_messages import Load
from mlx_sidecar.link.messages import Cancel, Prefill, Sampling, Submit, ToEngine
from mlx_sidecar_protocol.model import Received, Sent
from mlx_sidecar_protocol.notifications import StreamDelta
from mlx_sidecar_protocol.registry import METHODS
from tests.engine import forwards
from tests.engine.inline import Inline
from tests.support.pages import PACKAGE, ROOT, Page, files_with
from tests.support.pair import pair
from tests.support.random_models import write_model
from tests.support.streams import Bench, on_loop

PAGE = Page(ROOT / "docs" / "extending.md")
MODEL = "fake"


# A logits processor.


class Odd:
    """Leaves only the odd tokens to be sampled, unless they are sampled greedily."""

    order = 300
    reads_last_token = False

    def __init__(self, vocabulary: int) -> None:
        self._even = mx.arange(vocabulary) % 2 == 0

    def open(self, row: int, params: Sampling, prompt: list[int], answer: list[int]) -> bool:
        return params.temperature > 0

    def bind(self, rows: list[int]) -> Odd:
        return self  # nothing here depends on the row

    def close(self, row: int) -> None:
        """Nothing of the row was kept."""

    def apply(self, logits: mx.array) -> mx.array:
        return mx.where(self._even, -mx.inf, logits)

    def accept(self, tokens: mx.array) -> None:
        """The sampled tokens make no difference."""


class RandomModel(FakeBackend):
    """Every model is the one of random weights in ``models``, sampled with these ``processors``."""

    def __init__(self, models: Path, processors: tuple[ProcessorFactory, ...]) -> None:
        super().__init__()
        self._models, self._processors = models, processors

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        loaded = yield from super().load(load)
        probed = probe("qwen3", forwards.load(self._models, "qwen3"))
        batch = MlxBatch(probed.forward, probed.vocabulary, 1 << 34, processors=self._processors)
        return loaded._replace(batch=batch, cost=probed.cost)


def sampled(models: Path, processors: tuple[ProcessorFactory, ...]) -> list[list[int]]:
    """Return the answers of the model to a warm request and to a greedy one beside it."""
    with closing(Inline(1 << 34, backend=RandomModel(models, processors))) as engine:
        engine.load("m")
        for seq, temperature in ((1, 1.0), (2, 0.0)):
            engine.submit(seq, "m", 3, 16, Sampling(temperature=temperature, seed=5))
        engine.settle()
        return [engine.tokens(1), engine.tokens(2)]


def test_a_logits_processor_in_the_list_changes_the_rows_that_it_takes_and_no_others(tmp_path: Path) -> None:
    write_model(tmp_path / "qwen3", "qwen3")
    (warm, greedy), (odd, beside) = (sampled(tmp_path, listed) for listed in (FACTORIES, (*FACTORIES, Odd)))
    assert not all(token % 2 for token in warm)
    assert not all(token % 2 for token in greedy)
    assert len(odd) == 16
    assert all(token % 2 for token in odd)
    assert beside == greedy


def test_a_parameter_of_sampling_is_in_the_files_that_the_page_names() -> None:
    """``presence_penalty`` stands for all; besides, it is in the file of its own processor."""
    own = PACKAGE / "engine" / "execution" / "sampler" / "penalties.py"
    others = files_with({"presence_penalty"}) - {own}
    assert others
    assert others <= PAGE.files_in("A logits processor")


# An output parser.


class Shouts:
    """Takes capital letters for reasoning."""

    one_by_one = False
    outcome = Outcome()

    def push(self, text: str, tokens: list[int]) -> list[Segment]:
        runs = groupby(text, str.isupper)
        return [Segment(REASONING if loud else TEXT, "".join(run)) for loud, run in runs]

    def finish(self, *, cut: bool) -> list[Segment]:
        return []  # nothing is held back


def test_an_output_parser_sorts_the_text_of_a_stream_into_channels() -> None:
    def test() -> None:
        bench = Bench(["."], parser=Shouts())
        deltas = bench.stream.deltas
        assert deltas is not None
        bench.say(b"do NOT")
        bench.say(b" go. ON")
        bench.finish()
        assert [(delta.channel, delta.offset, delta.text) for delta in iter(deltas.take, None)] == [
            (TEXT, 0, "do "),
            (REASONING, 0, "NOT"),
            (TEXT, 3, " go"),
        ]
        assert bench.told == [Cancel(bench.task.seq, "stop")]
        assert (bench.stream.transcript.text, bench.stream.transcript.text_of(REASONING)) == ("do  go", "NOT")

    on_loop(test)


def test_hosts_are_told_of_three_kinds_of_channels_as_the_page_says() -> None:
    assert "three kinds of channels" in PAGE.section("An output parser")
    assert {"text", "reasoning", "tool_calls"} <= StreamDelta.model_fields.keys()


# A preparer.


class Doors(Preparer):
    """Sequences wait until a background thread has told that the doors are open."""

    name = "doors"

    def __init__(self) -> None:
        self._open = False
        self._waiting: list[Sequence] = []

    def arrived(self, sequence: Sequence, now: float) -> bool:
        self._waiting += [] if self._open else [sequence]
        return not self._open

    def told(self, event: object, now: float) -> None:
        self._open = self._open or event == "open"

    def ready(self, now: float) -> Iterable[Sequence]:
        there, self._waiting = (self._waiting, []) if self._open else ([], self._waiting)
        return there

    def left(self, sequence: Sequence) -> None:
        self._waiting = [other for other in self._waiting if other is not sequence]


def test_a_preparer_sets_sequences_aside_until_it_is_told_what_it_waits_for() -> None:
    with closing(Inline(1 << 30, preparers=[Doors()])) as engine:
        engine.load(MODEL)
        for seq in (1, 2):
            engine.submit(seq, MODEL)
        engine.settle()
        engine.send(Cancel(2), Background("something else"))
        engine.settle()
        assert engine.finished(2).reason == "cancelled"
        assert not engine.tokens(1)
        engine.send(Background("open"))
        engine.settle()
        engine.submit(3, MODEL)
        engine.settle()
        for seq in (1, 3):
            assert len(engine.tokens(seq)) == 8
            assert engine.finished(seq).reason == "length"
        assert not engine.tokens(2)


# A goal.


class Visit(msgspec.Struct, frozen=True, tag=True):
    """A goal of ``Submit``: take in its tokens and send none."""


def visit(seq: int = 1) -> Submit:
    return Submit(seq, MODEL, [1, 2, 3], Visit())  # type: ignore[arg-type]  # no member of ``Goal``


@pytest.mark.parametrize("goal", [Visit(), Prefill(pin=False)], ids=["a new one", "Prefill"])
def test_a_goal_that_is_no_generation_takes_in_its_tokens_and_sends_none(goal: Prefill) -> None:
    with closing(Inline(1 << 30)) as engine:
        engine.load(MODEL)
        engine.send(Submit(1, MODEL, [1, 2, 3], goal))
        engine.settle()
        end = engine.finished(1)
        assert (end.reason, end.started, engine.tokens(1)) == ("length", True, [])


def test_the_front_asks_the_next_engine_for_the_same_goal_again() -> None:
    def test() -> None:
        task = EngineTask(visit())
        assert task.entry.most_bytes == 3 * TOKEN_BYTES
        assert task.submission() == visit()

    on_loop(test)


def test_no_goal_passes_the_link_that_is_not_in_its_messages() -> None:
    decoder: Decoder[ToEngine] = Decoder(ToEngine)  # type: ignore[arg-type]  # a union is not a type[T]
    [message] = decoder.feed(encode(visit()))
    assert isinstance(message, Unreadable)


def test_goals_and_their_results_are_named_in_the_files_that_the_page_names() -> None:
    told_apart = files_with({"Goal", "Generate", "Prefill"})
    on_the_way = {PACKAGE / "front" / "streams" / name for name in ("task.py", "recovery.py")}
    assert told_apart | on_the_way == PAGE.files_in("A goal")
    assert all("pinned" in file.read_text() for file in on_the_way)


# A method.


class ReverseParams(Received):
    """A text to turn round."""

    text: str


class ReverseResult(Sent):
    """The text, last character first."""

    text: str


def reverse(sink: Sink, params: ReverseParams) -> ReverseResult:
    return ReverseResult(text=params.text[::-1])


REVERSE = Method("t.reverse", ReverseParams, reverse, quick=True)


def test_a_method_beside_those_of_the_contract_is_validated_and_answered() -> None:
    with pair(extra=[REVERSE]) as host:
        assert host.call("t.reverse", {"text": "abc"}) == {"text": "cba"}
        refused = host.error("t.reverse", {"text": 1})["data"]
        assert (refused["kind"], refused["errors"][0]["loc"]) == ("invalid_params", ["text"])
    with pair() as host:
        assert host.error("t.reverse", {"text": "abc"})["data"]["kind"] == "method_not_found"


def test_a_method_of_the_contract_is_in_the_files_that_the_page_names() -> None:
    """``detokenize`` stands for all: its name and its models are in no other file of the protocol and the runtime.

    The commands, which ask for it as any host does, are left out.
    """
    spec = METHODS["detokenize"]
    assert spec.result is not None
    named = files_with({spec.params.__name__, spec.result.__name__}, "detokenize")
    assert {file for file in named if "cli" not in file.parts} == PAGE.files_in("A method")


# The page.


@pytest.mark.parametrize("toy", [Odd, Shouts, Doors, Visit, ReverseParams, ReverseResult, reverse])
def test_the_page_shows_the_toys_as_they_are(toy: type) -> None:
    assert inspect.getsource(toy) in PAGE.text
