"""Directories in which something was mutated are refused or work, and a stream beside them notices nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hostile.directory import KINDS, Trial
from benchmarks.hostile.json_damage import damaged, raw, written
from benchmarks.hostile.report import report, table
from benchmarks.hostile.siege import Siege

TRIALS = 63
ANY_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=10)


def test_mutated_directories_end_no_process_and_change_no_other_text() -> None:
    siege = Siege()
    asyncio.run(siege.run((Trial(1, number, slow=False) for number in range(TRIALS)), seconds=1e9))
    assert report(siege, quick=True).broken == []
    assert {told.trial.kind for told in siege.told} == set(KINDS)
    assert len(siege.told) == TRIALS
    assert sum(told.loaded for told in siege.told) > TRIALS // 10
    assert all(kind in table(siege.told) for kind in KINDS)


@pytest.mark.parametrize("number", range(9))
def test_a_trial_is_the_same_whenever_it_is_made(tmp_path: Path, number: int) -> None:
    one, again = (Trial(7, number).make(tmp_path / name) for name in ("one", "again"))
    assert contents(one) == contents(again)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and not file.is_symlink()}


@given(ANY_JSON, st.text())
def test_raw_text_stands_in_json_as_it_is(value: object, text: str) -> None:
    assert written({"a": value, "b": raw(text)}) == json.dumps({"a": value})[:-1] + f', "b": {text}}}'


@given(st.integers())
def test_damage_leaves_what_it_was_given_as_it_was(seed: int) -> None:
    value = {"a": [1, {"b": "c"}], "d": {"e": True}}
    before = json.dumps(value)
    damaged(Random(seed), value, [{"a": 5}])
    assert json.dumps(value) == before
