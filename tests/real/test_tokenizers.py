"""Six real tokenizers and chat templates give the same as in transformers; benchmarks/tokenizers.py has all."""

from __future__ import annotations

import pytest

from benchmarks.tokenizers import KINDS, REFUSED, compare
from mlx_sidecar.engine.grammar.spelling import Spelling
from mlx_sidecar.front.output.formats.table import REASONING_FORMATS
from mlx_sidecar.front.output.vocabulary_bytes import vocabulary_bytes
from mlx_sidecar.link.messages import Vocabulary
from mlx_sidecar.text.tokenizer import TextModel
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


@pytest.mark.parametrize("name", ALWAYS)
def test_the_end_of_reasoning_is_forced_in_the_tokens_of_the_tokenizer(name: str) -> None:
    if not is_there(name):
        missing(f"the tokenizer {name} (tools/real_tokenizers.py fetches it)")
    text = TextModel.load(FOLDER / name)
    table = text.table()
    of_tokens = vocabulary_bytes(table)
    assert of_tokens is not None
    spelling = Spelling(Vocabulary(name, *of_tokens))
    behind = text.encode("a", add_special=False)
    for markers in (REASONING_FORMATS[0], REASONING_FORMATS[-1]):
        real = text.encode("a" + markers.end, add_special=False)
        assert real[: len(behind)] == behind
        assert spelling.end_marker(markers.end.encode(), table.special, 1 << 20).behind(0) == real[len(behind) :]
