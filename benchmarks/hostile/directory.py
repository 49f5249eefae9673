"""A trial: a copy of the embedded model's directory in which one kind of file was mutated, always the same way."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from mlx_sidecar import pocket

from ..faults.damage import DAMAGES
from . import config_attacks, template_attacks, tokenizer_attacks
from .json_damage import damaged, written
from .weights_attacks import mutated_header, mutated_index

SLOW_SHARE = 0.005  # of the trials of a kind that has some that hang
_BYTES_SHARE = 0.25  # of the trials whose file is damaged byte by byte
_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_OTHERS = ("chat_template.jinja", "model.safetensors")


class Trial(NamedTuple):
    """The ``number``-th trial of a seed. With ``slow`` its mutations may hang."""

    seed: int
    number: int
    slow: bool = True

    @property
    def kind(self) -> str:
        return list(KINDS)[self.number % len(KINDS)]

    def make(self, folder: Path) -> Path:
        """Write the directory; the same number gives the same files."""
        pick = Random(f"{self.seed}/{self.number}")
        folder.mkdir()
        for name in (*_FILES, *_OTHERS):
            (folder / name).symlink_to(pocket.PATH / name)
        KINDS[self.kind](pick, folder, pick.random() < SLOW_SHARE and self.slow)
        return folder


@cache
def _original(name: str) -> bytes:
    return (pocket.PATH / name).read_bytes()


def _write(file: Path, text: str | bytes) -> None:
    """Write a file in place of the link; lone surrogates become bytes that are no UTF-8."""
    file.unlink(missing_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))


def _bytewise(pick: Random, file: Path) -> None:
    _write(file, pick.choice(DAMAGES)(pick, _original(file.name)))


def _json(name: str, known: list[dict[str, object]]) -> Callable[[Random, Path, bool], None]:
    """Damage the object that pocket has in ``name``, or one of ``known`` where it has none."""

    def mutate(pick: Random, folder: Path, _: bool) -> None:
        file = folder / name
        if name in _FILES and pick.random() < _BYTES_SHARE:
            _bytewise(pick, file)
            return
        value = json.loads(_original(name)) if name in _FILES else pick.choice(known)
        _write(file, damaged(pick, value, known))

    return mutate


def _tokenizer(pick: Random, folder: Path, slow: bool) -> None:
    file = folder / "tokenizer.json"
    if slow:
        _write(file, written({**json.loads(_original(file.name)), **pick.choice(tokenizer_attacks.SLOW)}))
    else:
        _json(file.name, tokenizer_attacks.TOKENIZER)(pick, folder, slow)


def _special(pick: Random, folder: Path, slow: bool) -> None:
    """Damage the older companions of tokenizer_config.json."""
    name, known = pick.choice(
        (
            ("special_tokens_map.json", config_attacks.SPECIAL_TOKENS_MAP),
            ("added_tokens.json", config_attacks.ADDED_TOKENS),
        )
    )
    _json(name, known)(pick, folder, slow)


def _template(pick: Random, folder: Path, slow: bool) -> None:
    file = folder / "chat_template.jinja"
    where = pick.random()
    if slow:
        _write(file, pick.choice(template_attacks.SLOW))
    elif where < 0.2:
        _bytewise(pick, file)
    elif where < 0.5:
        _write(file, template_attacks.edited(pick, _original(file.name).decode()))
    elif where < 0.6:
        _write(file, template_attacks.edited(pick, pick.choice(template_attacks.TEMPLATES)))
    else:
        _write(file, pick.choice(template_attacks.TEMPLATES))


def _header(pick: Random, folder: Path, _: bool) -> None:
    _write(folder / "model.safetensors", mutated_header(pick, _original("model.safetensors")))


def _index(pick: Random, folder: Path, _: bool) -> None:
    """Write an index beside pocket's one weights file."""
    data = _original("model.safetensors")
    (size,) = struct.unpack("<Q", data[:8])
    text = mutated_index(pick, data[8 : 8 + size])
    file = folder / "model.safetensors.index.json"
    _write(file, text)
    if pick.random() < _BYTES_SHARE:
        _write(file, pick.choice(DAMAGES)(pick, file.read_bytes()))


def _directory(pick: Random, folder: Path, _: bool) -> None:
    """Put something unexpected in the place of a file."""
    file = folder / pick.choice((*_FILES, *_OTHERS, "special_tokens_map.json", "model.safetensors.index.json"))
    file.unlink(missing_ok=True)
    pick.choice(_IN_PLACE)(file, pick)


def _many_templates(file: Path, pick: Random) -> None:
    (more := file.parent / "additional_chat_templates").mkdir()
    for n in range(pick.choice((1, 64, 65, 300))):
        (more / f"{n}.jinja").write_text("{{ messages }}")


def _sparse(file: Path, pick: Random) -> None:
    with file.open("wb") as made:
        made.truncate(pick.choice((1, 16 * 2**20, 16 * 2**20 + 1, 2**40)))


_IN_PLACE: list[Callable[[Path, Random], object]] = [
    lambda *_: None,
    lambda file, _: file.mkdir(),
    lambda file, _: file.symlink_to(file.name),
    lambda file, _: file.symlink_to("/dev/zero"),
    lambda file, _: file.symlink_to("/proc/self/mem"),
    lambda file, _: os.mkfifo(file),
    lambda file, _: file.write_bytes(b""),
    lambda file, _: file.write_bytes(b"\xff\xfe" + "{}".encode("utf-16-le")),
    lambda file, _: file.write_bytes(b"\xef\xbb\xbf{}"),
    lambda file, _: shutil.copy(pocket.PATH / "tokenizer.json", file),
    lambda file, _: shutil.copy(pocket.PATH / "model.safetensors", file),
    lambda file, pick: file.write_bytes(pick.randbytes(pick.choice((1, 1000, 100_000)))),
    _sparse,
    _many_templates,
]

KINDS: Mapping[str, Callable[[Random, Path, bool], None]] = {
    "tokenizer.json": _tokenizer,
    "chat template": _template,
    "config.json": _json("config.json", config_attacks.CONFIG),
    "tokenizer_config.json": _json("tokenizer_config.json", config_attacks.TOKENIZER_CONFIG),
    "generation_config.json": _json("generation_config.json", config_attacks.GENERATION),
    "special tokens": _special,
    "safetensors header": _header,
    "index": _index,
    "what is no such file": _directory,
}
