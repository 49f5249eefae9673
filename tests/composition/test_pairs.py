"""Any two features that a request can have hold together, or are refused by name."""

from __future__ import annotations

import pytest

from tests.support.forwards import native_only
from tests.support.host import Frame
from tests.support.sidecar import sidecar

from .cases import ENGINES, EXACT, PROMPT, Case, Engine, cases_on, pair_cases
from .checks import check
from .conftest import Outcomes
from .features import (
    ADAPTERS_REFUSED,
    ALTERNATIVES,
    BESIDE,
    DRAFT,
    FEATURES,
    FORMS_REFUSED,
    OPTIONS,
    PROPOSALS_REFUSED,
    REFUSED,
    VECTORS_REFUSED,
    Effect,
    pairs,
)
from .page import PAGE, with_table

CASES = [
    pytest.param(engine, case, id=f"{Case(engine)}: {case}", marks=[native_only] if "float16" in engine else [])
    for engine in ENGINES
    for case in cases_on(engine)
]
PARAMETERS = [feature.name for feature in FEATURES if feature.effect is Effect.CHANGES and feature.name not in OPTIONS]


@pytest.mark.parametrize(("engine", "case"), CASES)
def test_an_answer_has_all_that_its_request_asks_for(outcomes: Outcomes, engine: Engine, case: Case) -> None:
    check(outcomes[engine, case])


def test_every_pair_runs_or_is_refused_or_cannot_be_asked_for() -> None:
    ran = {case.features for case in pair_cases()}
    assert ran | set(REFUSED) | set(ALTERNATIVES) == set(pairs())
    assert len(ran) + len(REFUSED) + len(ALTERNATIVES) == len(pairs())


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_feature_that_may_change_tokens_does(outcomes: Outcomes, name: str) -> None:
    plain = outcomes[EXACT, Case(frozenset({"ngram", "window"}))].undisturbed
    assert outcomes[EXACT, Case(frozenset({name, "window"}))].undisturbed["tokens"] != plain["tokens"]


@pytest.mark.parametrize("proposer", ["ngram", "draft"])
def test_proposals_are_made_and_kept(outcomes: Outcomes, proposer: str) -> None:
    told = [
        outcome.answer["usage"].get("speculation", {}) for (_, case), outcome in outcomes.items() if proposer in case
    ]
    assert sum(figures.get("accepted", 0) for figures in told) > 0


def test_some_answers_are_cut_by_their_deadline(outcomes: Outcomes) -> None:
    assert any(outcome.answer["finish_reason"] == "deadline" for outcome in outcomes.values())


def test_what_is_refused_is_refused_by_name(models: dict[str, str]) -> None:
    with sidecar() as process:
        for name in models.values():
            process.call("load", {"model": name})
        for pair in PROPOSALS_REFUSED:
            params: Frame = {**Case(pair).params(), "model": models["recurrent"]}
            if "draft" in pair:
                params["speculation"]["draft"] = models[DRAFT]
            error = process.error("generate", params)
            assert (error["data"]["kind"], error["data"]["name"]) == ("unsupported_parameter", "speculation")
        for pair in ADAPTERS_REFUSED:
            error = process.error("generate", {**Case(pair).params(), "model": models["recurrent"]})
            assert (error["data"]["kind"], error["data"]["name"]) == ("unsupported_parameter", "adapter")
        for pair in VECTORS_REFUSED:
            [method], [kind] = pair & BESIDE.keys(), pair - BESIDE.keys()
            error = process.error(method, {**BESIDE[method], "model": models[kind]})
            assert (error["data"]["kind"], error["data"]["name"]) == ("unsupported_parameter", "model")
        for pair in FORMS_REFUSED:
            error = process.error("generate", {**Case(pair).params(), "model": models["attention"]})
            assert [each["loc"] for each in error["data"]["errors"]] == [["tool_choice"], ["response_format"]]
        for kind in ("sliding window", "recurrent"):
            drafted = {"model": models["attention"], "tokens": PROMPT, "speculation": {"draft": models[kind]}}
            error = process.error("generate", drafted)
            assert (error["data"]["kind"], error["data"]["name"]) == ("unsupported_parameter", "speculation.draft")


def test_the_page_has_the_table_of_the_tests() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page)
