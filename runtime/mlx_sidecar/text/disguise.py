"""Disguises texts so that no control token can be read in them, though a template copies them like the originals.

Each character that occurs in a control token's text is exchanged for one from the private use area of Unicode. In a
chat rendered from disguised texts every character shows whether the template or a text wrote it, and the disguise can
be taken off again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from mlx_sidecar_protocol.errors import UnsupportedParameter

Path = tuple[str | int, ...]
Choose = Callable[[str, Path], bool]  # whether the text at this path is disguised

_PRIVATE = range(0xE000, 0xF900)
_PRIVATE_CHARACTER = re.compile("[\ue000-\uf8ff]")
DISGUISED_WORD = re.compile("[\ue000-\uf8ff]{2,}")
# Not exchanged, because templates split texts at white space, and JSON escapes the others.
_KEPT = {'"', "\\", *map(chr, range(0x20)), *(chr(code) for code in range(0x3000) if chr(code).isspace())}
_WRITTEN_OUT = re.compile(r"\\u(e[0-9a-f]{3}|f[0-8][0-9a-f]{2})")  # as a template's tojson may write private characters
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
# Objects whose keys are names that the host chose.
_NAMES = ("properties", "arguments")


class Disguise:
    """Exchanges ``characters``. ``seen`` are texts whose own private characters must stay as they are."""

    def __init__(self, characters: Iterable[str], seen: Iterable[str]) -> None:
        """Raises UnsupportedParameter if there are more characters than private ones."""
        characters = [character for character in characters if character not in _KEPT]
        taken = {int(code, 16) for text in seen for code in _WRITTEN_OUT.findall(text)}
        taken |= {ord(character) for text in seen for character in _PRIVATE_CHARACTER.findall(text)}
        free = list(islice((chr(code) for code in _PRIVATE if code not in taken), len(characters)))
        if len(free) < len(characters):
            because = "the texts of the model's control tokens have too many different characters"
            raise UnsupportedParameter("escape_special", because=because)
        pairs = dict(zip(characters, free, strict=True))
        self._put_on = str.maketrans(pairs)
        self._take_off = str.maketrans({private: own for own, private in pairs.items()})
        self._written_out = {f"{ord(private):04x}": json.dumps(own)[1:-1] for own, private in pairs.items()}

    def of(self, value: Any, choose: Choose, path: Path = ()) -> Any:
        """A copy of ``value`` in which the texts and keys that ``choose`` accepts are disguised."""
        if isinstance(value, Mapping):
            return {self._key(key, choose, path): self.of(each, choose, (*path, key)) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(each, choose, (*path, number)) for number, each in enumerate(value)]
        if not isinstance(value, str) or not choose(value, path):
            return value
        if path and path[-1] == "arguments" and _is_json(value):
            return _JSON_TEXT.sub(lambda text: text[0].translate(self._put_on), value)
        return value.translate(self._put_on)

    def off(self, text: str) -> str:
        """Take the disguise off ``text``, which a template rendered from disguised texts."""
        plain = _WRITTEN_OUT.sub(lambda found: self._written_out.get(found[1], found[0]), text)
        return plain.translate(self._take_off)

    def _key(self, key: Any, choose: Choose, path: Path) -> Any:
        chosen = isinstance(key, str) and choose(key, (*path, "name" if path[-1:] and path[-1] in _NAMES else "type"))
        return key.translate(self._put_on) if chosen else key


def texts_of(value: Any, path: Path = ()) -> Iterable[tuple[str, Path]]:
    """All texts in ``value``, keys among them."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key), (*path, "type")
            yield from texts_of(each, (*path, key))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from texts_of(each, (*path, number))
    elif isinstance(value, str):
        yield value, path


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
