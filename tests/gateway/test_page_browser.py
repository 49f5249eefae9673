"""The live page in Chromium: one browser against two gateways over the fake engine, each case in a page of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.gateway_process import gateway_process
from tests.support.programs import missing, program

MODULES = Path(__file__).parents[1] / "node"
CASES = Path(__file__).parent / "page" / "cases.mjs"
PATIENCE_S = 900.0  # far beyond what all cases take
MARKUP = "<img src=x onerror=alert(1)><b>bold</b><script>alert(2)</script>"
MODELS = {
    "quick": "fake?text=Done.",
    "slow": "fake?tokens=4000&delay_ms=15",
    "city": 'fake?text={"city": "Paris"}',
    "thinks": "fake?text=<think>Two and two</think>Four",
    "markup": f"fake?text={MARKUP.replace('=', '%3D').replace('&', '%26')}",
    "fails": "fake?tokens=9&fail_after=4",
    "dies": "fake?text=From begin to end&delay_ms=2&crash_after=5",
}

Told = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Each case as ``cases.mjs`` tells it."""
    if not (MODULES / "node_modules" / "playwright-core").is_dir():
        missing("packages of npm: npm ci --prefix tests/node")
    keys = tmp_path_factory.mktemp("page") / "keys"
    keys.write_text("name-of-ann sk-ann\nname-of-bob sk-bob\n")
    options = [word for name, model in MODELS.items() for word in ("--model", f"{name}={model}")]
    keyed_options = ("--engine", "fake", "--keys", str(keys), "--model", "quick=fake?text=Done.")
    with gateway_process("--engine", "fake", *options) as gateway, gateway_process(*keyed_options) as keyed:
        command = [program("node"), str(CASES), program("chromium"), gateway.url, keyed.url]
        done = subprocess.run(command, cwd=MODULES, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    result: Told = json.loads(done.stdout)
    return result


def case(told: Told, name: str) -> Told:
    """The observations of one case, in which nothing went wrong on the page, nor against its policy."""
    seen: Told = told[name]
    assert "error" not in seen, seen["error"]
    assert seen["faults"] == []
    return seen


def test_the_page_paints_and_loads_nothing_but_what_it_asks_of_the_gateway(told: Told) -> None:
    seen = case(told, "paints")
    assert (seen["title"], seen["state"]) == ("mlx-sidecar", "engine ready")
    assert set(seen["outside"]) <= {"/events", "/v1/models"}


def test_a_running_request_is_listed_with_its_tokens_and_then_with_its_ending(told: Told) -> None:
    seen = case(told, "running")
    assert (seen["running"], seen["after"]) == ("1", "disconnected")
    assert seen["tokens"] > 3


def test_its_numbers_are_those_of_stats(told: Told) -> None:
    seen = case(told, "equals")
    assert seen["shown"] == seen["told"]


def test_an_answer_streams_and_escape_stops_it(told: Told) -> None:
    seen = case(told, "streams")
    assert (seen["stopped"], seen["question"], seen["focus"]) == ("stopped", "", "question")


def test_an_answer_is_tried_again_in_its_place(told: Told) -> None:
    seen = case(told, "retries")
    assert (seen["first"], seen["second"], seen["turns"]) == ("Done.", "Done.", 2)


def test_an_answer_under_a_schema_is_json_and_a_broken_schema_is_told_before_anything_is_sent(told: Told) -> None:
    seen = case(told, "writes")
    assert seen["fault"].startswith("This is not JSON")
    assert seen["turns"] == 0
    assert list(seen["answer"]) == ["city"]


def test_reasoning_is_folded(told: Told) -> None:
    seen = case(told, "folds")
    assert (seen["folded"], seen["reasoning"], seen["answer"]) == (True, "Two and two", "Four")


def test_markup_in_a_question_or_an_answer_is_text(told: Told) -> None:
    seen = case(told, "injects")
    assert (seen["answer"], seen["elements"]) == (MARKUP, 0)


def test_an_error_in_an_answer_is_shown_and_can_be_tried_again(told: Told) -> None:
    seen = case(told, "fails")
    assert seen["fault"]
    assert seen["retry"]


def test_the_death_of_an_engine_is_counted_and_the_answer_goes_on(told: Told) -> None:
    seen = case(told, "restarts")
    assert (seen["text"], seen["carried"]) == ("From begin to end", "1")


def test_everything_is_reached_by_keyboard(told: Told) -> None:
    seen = case(told, "walks")
    assert seen["ids"] == ["skip", "model", "clear", "SUMMARY", "turns", "question", "send"]
    assert (seen["typed"], seen["asked"]) == ("One\ntwo", "One\ntwo")
    assert (seen["turns"], seen["said"]) == (2, "Done.")


def test_a_key_is_asked_for_and_a_wrong_one_told_and_no_holder_sees_the_requests_of_another(told: Told) -> None:
    seen = case(told, "keys")
    assert (seen["focus"], seen["stays"]) == ("key", True)
    assert (seen["seen"]["rows"], seen["seen"]["names"]) == (0, False)
    assert (seen["kept"], seen["left"]) == (0, 0)


def test_no_screen_and_no_part_of_one_scrolls_sideways(told: Told) -> None:
    seen = case(told, "narrows")
    assert [seen[width] for width in ("360", "768", "1080", "1280")] == [[]] * 4


def test_axe_finds_nothing_in_light_and_dark(told: Told) -> None:
    seen = case(told, "checks")
    assert set(seen) - {"faults"} == {"light 1280", "light 360", "dark 1280", "dark key"}
    assert not [fault for faults in seen.values() for fault in faults]


def test_an_hour_of_snapshots_leaves_nothing_behind(told: Told) -> None:
    seen = case(told, "grows")
    assert seen["after"]["nodes"] <= seen["before"]["nodes"] + 50
    assert seen["after"]["bytes"] <= seen["before"]["bytes"] + 2**20


def test_a_gateway_that_is_away_is_told_and_found_again(told: Told) -> None:
    assert case(told, "losesTheGateway")["stale"] is False
