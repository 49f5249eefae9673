"""Tokens of llama.cpp's own test texts, by the vocabularies in the sdist of llama-cpp-python, rebuilt from GGUF."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from mlx_sidecar.checkpoint.gguf.header import read_header
from mlx_sidecar.checkpoint.gguf.metadata import Metadata
from mlx_sidecar.checkpoint.gguf.tokenizers import rebuild
from mlx_sidecar_protocol.errors import RpcError

from ..corpus import CACHE, LLAMA_CPP, archive

FOLDER = CACHE / "vocabularies"
_PLACE = "/vendor/llama.cpp/models/ggml-vocab-"
_BETWEEN = "\n__ggml_vocab_test__\n"


class Compared(NamedTuple):
    """One vocabulary: ``differ`` of ``texts`` have other tokens than llama.cpp's; or why it is not rebuilt."""

    name: str
    kind: str
    texts: int = 0
    differ: int = 0
    refused: str = ""


def fetch() -> list[Path]:
    """The vocabularies with their texts, fetched and unpacked unless they are there. Raises corpus.NotFetched."""
    if not FOLDER.is_dir():
        fresh = FOLDER.with_suffix(".unpacking")
        with tarfile.open(archive(LLAMA_CPP)) as packed:
            for member in packed:
                if _PLACE in member.name and member.isfile():
                    member.name = Path(member.name).name
                    packed.extract(member, fresh, filter="data")
        fresh.replace(FOLDER)
    return sorted(FOLDER.glob("*.gguf"))


def compare(path: Path) -> Compared:
    """Compare one vocabulary. Raises what ``read_header`` raises for a damaged file."""
    name = path.stem.removeprefix("ggml-vocab-")
    meta = Metadata(name, read_header(path, name).metadata)
    kind = meta.text("tokenizer.ggml.model")
    if kind == "gpt2":
        kind = f"byte-level, {meta.text('tokenizer.ggml.pre', 'no splitting named')}"
    elif kind == "llama":
        kind = "SentencePiece"
    try:
        tokenizer = Tokenizer.from_str(json.dumps(rebuild(meta, 1).tokenizer))
    except RpcError as error:
        return Compared(name, kind, refused=error.message.partition(": ")[2])
    tokenizer.encode_special_tokens = True  # the texts are tokenised without control tokens, as llama.cpp's test does
    cases = list(_cases(path))
    differ = sum(tokenizer.encode(text, add_special_tokens=False).ids != tokens for text, tokens in cases)
    return Compared(name, kind, len(cases), differ)


def _cases(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Texts, and llama.cpp's tokens of them; none where the package has no texts for the vocabulary."""
    texts, tokens = (path.with_name(f"{path.name}.{end}") for end in ("inp", "out"))
    if texts.is_file():
        # As bytes, because some texts are of line ends.
        lines = tokens.read_bytes().decode().split("\n")
        for text, line in zip(texts.read_bytes().decode().split(_BETWEEN), lines, strict=True):
            yield text, [int(each) for each in line.split()]
