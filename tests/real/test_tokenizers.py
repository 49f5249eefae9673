"""Six real tokenizers and chat templates give the same as in transformers; benchmarks/tokenizers.py has all."""

from __future__ import annotations

import pytest

from benchmarks.tokenizers import KINDS, REFUSED, compare
from real_tokenizers import ALWAYS, FOLDER, is_there
from tests.support.programs import missing

pytestmark = pytest.mark.real

WITHOUT_TEMPLATE = {"llama2"}


@pytest.mark.parametrize("name", ALWAYS)
def test_tokens_text_streams_and_chats_are_those_of_transformers(name: str) -> None:
    if not is_there(name):
        missing(f"the tokenizer {name} (tools/real_tokenizers.py fetches it)")
    cases = compare(FOLDER / name)
    assert [case for case in cases if case.differs] == []
    compared = {case.kind for case in cases if case.ours != REFUSED}
    assert compared == set(KINDS) - ({"render"} if name in WITHOUT_TEMPLATE else set())
