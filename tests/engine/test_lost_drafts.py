"""A request outlives the model that makes proposals for it, where an engine had accepted it with that one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import pytest
from msgspec.structs import replace

from mlx_sidecar.engine.resident_models import LoadedModel, LoadStep
from mlx_sidecar.link.control_messages import Load, Unload
from mlx_sidecar.link.messages import Generate, Sampling, Speculation, Submit
from tests.engine.inline import FaultyBackend, Inline

TARGET, DRAFT = "fake?tokens=12", "fake"


class Drafting(FaultyBackend):
    """Its models may make proposals, and never do."""

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        loaded = yield from super().load(load)
        return loaded._replace(card=replace(loaded.card, capabilities={}))


@pytest.fixture
def engine() -> Iterator[Inline]:
    with closing(Inline(1 << 30, backend=Drafting())) as inline:
        inline.load(TARGET, DRAFT)
        yield inline


def submit(engine: Inline, seq: int, *, again: bool) -> None:
    goal = Generate(Sampling(), [], 12, speculation=Speculation(ngram=False, draft=DRAFT))
    engine.send(Submit(seq, TARGET, [1], goal, again=again))
    engine.settle()


@pytest.mark.parametrize("again", [False, True])
def test_it_runs_with_its_draft_model_while_that_is_there(engine: Inline, again: bool) -> None:
    submit(engine, 1, again=again)
    assert engine.finished(1).reason == "length"


def test_it_goes_on_without_a_draft_model_that_is_gone(engine: Inline) -> None:
    submit(engine, 1, again=False)
    engine.send(Unload(7, DRAFT))
    engine.settle()
    submit(engine, 2, again=True)
    assert engine.finished(2).reason == "length"
    assert engine.tokens(2) == engine.tokens(1)


def test_a_new_request_is_refused_a_draft_model_that_is_not_there(engine: Inline) -> None:
    engine.send(Unload(7, DRAFT))
    engine.settle()
    submit(engine, 1, again=False)
    fault = engine.finished(1).fault
    assert fault is not None
    assert (fault.kind, fault.details["model"]) == ("model_not_loaded", DRAFT)
