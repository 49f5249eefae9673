"""Real tokenizers and chat templates in the sidecar against the same ones in transformers.

    python -m benchmarks.tokenizers [NAME …]

compares the tokenizers of these names, or all that tools/real_tokenizers.json names, which are fetched where they are
not there, and prints a table: for each kind of comparison how many cases differ, of how many, and the first of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from mlx_sidecar.link.token_table import TokenTable
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.errors import RpcError

from .tokenizer_cases import CALLED, CHATS, TEXTS, TOOLS, Chat, token_lists, with_special

ROOT = Path(__file__).parents[1]
TOKEN_LISTS = 60
REFUSED = "refused"


class Case(NamedTuple):
    """One comparison. ``kind`` is the column, ``given`` the input of both."""

    kind: str
    given: object
    ours: object
    theirs: object

    @property
    def differs(self) -> bool:
        return self.ours != self.theirs


KINDS = ("encode", "encode bare", "decode", "decode skipping", "streamed", "streamed skipping", "render")


def reference(directory: Path) -> Any:
    """Return transformers' tokenizer of the class that follows tokenizer.json to the letter."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(directory)


def compare(directory: Path) -> list[Case]:
    """Return every case of a model directory, equal ones included."""
    ours, theirs = TextModel.load(directory), reference(directory)
    texts = [*TEXTS, *with_special(theirs.all_special_tokens)]
    encoded = [ours.encode(text) for text in texts]
    pieces = theirs.convert_ids_to_tokens(list(range(len(theirs))))
    lists = [*encoded, *token_lists(len(theirs), [piece or "" for piece in pieces], TOKEN_LISTS)]
    return [
        *_encoded(ours, theirs, texts),
        *_decoded(ours, theirs, lists),
        *(_rendered(ours, theirs) if ours.has_chat_template else ()),
    ]


def _encoded(ours: TextModel, theirs: Any, texts: Sequence[str]) -> Iterator[Case]:
    for kind, special in (("encode", True), ("encode bare", False)):
        for text in texts:
            yield Case(kind, text, ours.encode(text, special), theirs.encode(text, add_special_tokens=special))


def _decoded(ours: TextModel, theirs: Any, lists: Sequence[list[int]]) -> Iterator[Case]:
    table = ours.table()
    for suffix, skip in (("", False), (" skipping", True)):
        for tokens in lists:
            whole = theirs.decode(tokens, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            yield Case(f"decode{suffix}", tokens, ours.decode(tokens, skip), whole)
            yield Case(f"streamed{suffix}", tokens, streamed(ours, table, tokens, skip), whole)


def streamed(model: TextModel, table: TokenTable, tokens: Sequence[int], skip_special: bool) -> str:
    """Return the text that a host reads as deltas of ``tokens``."""
    from tests.support.texts import detokenizer_of

    detokenizer = detokenizer_of(table, model.decode, skip_special)
    return "".join([*map(detokenizer.push, tokens), detokenizer.finish()])


def _rendered(ours: TextModel, theirs: Any) -> Iterator[Case]:
    for chat in CHATS:
        for tools in (None, TOOLS):
            for answer in (True, False):
                yield _render(ours, theirs, chat, tools, answer)


def _render(ours: TextModel, theirs: Any, chat: Chat, tools: Any, answer: bool) -> Case:
    def by_transformers() -> object:
        return theirs.apply_chat_template(chat, tools=tools, add_generation_prompt=answer, tokenize=False)

    mine = _or_refused(lambda: ours.render(chat, tools, answer).text, RpcError)
    # Errors that a template raises on purpose, and those that happen to it.
    other = _or_refused(by_transformers, TemplateError, TypeError)
    # DeepSeek's templates write no call beside a content that is a string, under transformers: nothing to compare with.
    if CALLED in str(mine) and CALLED not in str(other):
        other = mine
    return Case("render", (chat, tools is not None, answer), mine, other)


def _or_refused(render: Callable[[], object], *refusals: type[Exception]) -> object:
    try:
        return render()
    except refusals:
        return REFUSED


def table(compared: dict[str, list[Case]]) -> str:
    lines = [f"| tokenizer | {' | '.join(KINDS)} |", "|---|" + "---|" * len(KINDS)]
    for name, cases in compared.items():
        counts = (_count([case for case in cases if case.kind == kind]) for kind in KINDS)
        lines.append(f"| {name} | {' | '.join(counts)} |")
    return "\n".join(lines)


def _count(cases: list[Case]) -> str:
    if not cases:
        return "no template"
    refused = sum(case.ours == case.theirs == REFUSED for case in cases)
    return f"{sum(case.differs for case in cases)} of {len(cases)}" + (
        f", {refused} refused by both" if refused else ""
    )


def main() -> None:
    chosen = sys.argv[1:]
    subprocess.run([sys.executable, str(ROOT / "tools" / "real_tokenizers.py"), *(chosen or ["--all"])], check=True)
    folder = ROOT / ".venv" / "models" / "tokenizers"
    names = chosen or sorted(path.name for path in folder.iterdir() if path.is_dir())
    compared = {name: compare(folder / name) for name in names}
    print(table(compared))
    for name, cases in compared.items():
        for kind in KINDS:
            if different := [case for case in cases if case.kind == kind and case.differs]:
                _, given, ours, theirs = different[0]
                print(f"\n{name}, {kind}: {given!r:.300}\n  ours:   {ours!r:.600}\n  theirs: {theirs!r:.600}")


if __name__ == "__main__":
    main()
