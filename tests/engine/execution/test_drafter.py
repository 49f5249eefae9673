"""A proposal of a draft model is kept only where the target samples it, and is lost with the draft model alone."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from mlx_sidecar.engine.core.batch import StepFailed
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.drafter import Drafter, objection
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.native.proof import prove
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.messages import Sampling, Speculation
from tests.engine.driver import Driver
from tests.engine.forwards import NATIVELY
from tests.support.prices import Free
from tests.support.sequences import sequence_of

LIMIT_BYTES = 1 << 34
VOCABULARY = 300
LONG = [(7 * at * at + 13 * at + 5) % 300 for at in range(200)]
SHORT = [3, 1, 4, 1, 5, 9, 2, 6]
SEEDED = Sampling(temperature=0.8, seed=5, top_p=0.9, repetition_penalty=1.1)

numbers = count(1)


@pytest.fixture(autouse=True)
def drafts_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drafter, "pass_s", lambda self, rows: 0.0)


def batch_of(models: Path, kind: str, drafts: dict[str, MlxBatch]) -> MlxBatch:
    model = mlxlm.load_model(models / kind.removeprefix(NATIVELY))[0]
    native = kind.startswith(NATIVELY)
    forward = (drained(prove(kind, model, "exact", 1)) if native else probe(kind, model)).forward
    batch = MlxBatch(forward, VOCABULARY, LIMIT_BYTES, drafts=drafts)
    batch.proposer.speculator.prices = Free()
    return batch


def sequence(tokens: list[int], sampling: Sampling | None = None, *, drafted: bool = True) -> Sequence:
    speculation = Speculation(ngram=False, draft="draft", max_tokens=4) if drafted else None
    return sequence_of(next(numbers), tokens, 40, sampling, speculation=speculation)


def run(batch: MlxBatch, *sequences: Sequence) -> Driver:
    driver = Driver(batch)
    driver.add(*sequences)
    driver.drain()
    return driver


def accepted(driver: Driver) -> int:
    return sum(event.effort.accepted for event in driver.events if event.effort)


@pytest.mark.parametrize("sampling", [Sampling(), SEEDED])
@pytest.mark.parametrize("target", ["qwen3", "native qwen3"])
@pytest.mark.parametrize("draft", ["qwen3", "llama", "native llama"])
def test_the_tokens_with_a_draft_model_are_those_without(
    random_models: Path, target: str, draft: str, sampling: Sampling
) -> None:
    drafts: dict[str, MlxBatch] = {}
    batch = batch_of(random_models, target, drafts)
    plain = [sequence(tokens, sampling, drafted=False) for tokens in (LONG, SHORT)]
    run(batch, *plain)
    drafts["draft"] = batch_of(random_models, draft, {})
    drafted = [sequence(tokens, sampling) for tokens in (LONG, SHORT)]
    driver = run(batch, *drafted, sequence(LONG[50:], drafted=False))
    assert [s.generated for s in drafted] == [s.generated for s in plain]
    if draft in target and sampling == Sampling():
        assert accepted(driver) > 30


def test_a_draft_model_that_is_unloaded_stops_proposing_and_is_let_go(random_models: Path) -> None:
    drafts = {"draft": batch_of(random_models, "qwen3", {})}
    batch = batch_of(random_models, "qwen3", drafts)
    plain = sequence(SHORT, drafted=False)
    run(batch, plain)
    driver = Driver(batch)
    drafted = sequence(SHORT)
    driver.add(drafted)
    while len(drafted.generated) < 10:
        driver.step()
    del drafts["draft"]
    before = accepted(driver)
    driver.drain()
    assert drafted.generated == plain.generated
    assert accepted(driver) - before <= 4  # of the step that was in flight
    drafts["draft"] = batch_of(random_models, "qwen3", {})
    again = sequence(SHORT)
    assert accepted(run(batch, again)) > 0
    assert again.generated == plain.generated


def test_a_draft_model_that_lost_its_rows_takes_the_texts_in_anew(random_models: Path) -> None:
    draft = batch_of(random_models, "qwen3", {})
    batch = batch_of(random_models, "qwen3", {"draft": draft})
    driver = Driver(batch)
    drafted = sequence(SHORT)
    driver.add(drafted)
    while len(drafted.generated) < 10:
        driver.step()
    draft.break_with(RuntimeError("scripted"))
    driver.drain()
    plain = sequence(SHORT, drafted=False)
    run(batch, plain)
    assert drafted.generated == plain.generated


def test_a_draft_model_goes_on_with_sequences_of_its_own(random_models: Path) -> None:
    draft = batch_of(random_models, "llama", {})
    batch = batch_of(random_models, "qwen3", {"draft": draft})
    own, plain = sequence(LONG, drafted=False), sequence(LONG, drafted=False)
    run(draft, plain)
    one, other = Driver(batch), Driver(draft)
    drafted = sequence(SHORT)
    one.add(drafted)
    other.add(own)
    while one.running or other.running:
        one.step()
        other.step()
    assert own.generated == plain.generated


def test_a_failure_of_the_draft_model_fails_its_own_step_too(
    random_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = batch_of(random_models, "llama", {})
    batch = batch_of(random_models, "qwen3", {"draft": draft})
    own, drafted = sequence(LONG, drafted=False), sequence(SHORT)
    theirs, driver = Driver(draft), Driver(batch)
    theirs.add(own)
    driver.add(drafted)
    driver.step()

    def fail(step: object) -> None:
        raise RuntimeError("scripted")

    monkeypatch.setattr(draft.forward, "run", fail)
    with pytest.raises(StepFailed):
        driver.drain()
    monkeypatch.undo()
    with pytest.raises(StepFailed):
        theirs.drain()


@pytest.mark.parametrize(("kind", "because"), [("sliding", "window"), ("mamba", "ArraysCache"), ("llama4", "mlx-lm")])
def test_models_whose_rows_cannot_be_taken_back_far_make_no_proposals(
    random_models: Path, kind: str, because: str
) -> None:
    assert because in objection(batch_of(random_models, kind, {}).forward)
