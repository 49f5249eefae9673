"""Reads a fake model's script from its name: ``anything?option=value&…``. docs/fake-engine.md lists the options."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from urllib.parse import parse_qsl

from mlx_sidecar_protocol.errors import ModelUnsupported

END = 256  # the end-of-turn token; every other token is a byte
VOCABULARY = 257

_TOOL_RESULT = b"<|tool|>"  # as the chats of fake models have it

_WORDS = ["the", "a", "this", "two", "river", "stone", "light", "wind", "paper", "small", "opens", "turns", "and", "or"]
_WIDE_WORDS = ["é", "ß", "日本", "naïve", "🙂", "Ω"]


@dataclass(frozen=True)
class Script:
    """Every field is an option of the same name. Times in milliseconds; counts in tokens; -1 is never."""

    tokens: int = 32
    text: str | None = None
    then: str | None = None
    echo: bool = False
    wide: bool = False
    delay_ms: float = 0.0
    prefill_ms: float = 0.0
    load_ms: float = 0.0
    load_steps: int = 4
    fail_load: str = ""
    fail_after: int = -1
    raise_after: int = -1
    poison_raise: int = -1
    crash_after: int = -1
    poison_after: int = -1
    poison_prompt: bool = False
    poison_token: int = -1
    hang_after: int = -1
    poison_hang: int = -1
    memory_rows: int = 0
    context: int = 8192
    memory_bytes: int = 1_000_000
    token_bytes: int = 0
    dimensions: int = 16

    @classmethod
    def of(cls, model: str) -> Script:
        """Return the script in ``model``'s name. Raises ``ModelUnsupported`` for an option that does not exist."""
        _, _, query = model.partition("?")
        kinds = {field.name: str(field.type) for field in fields(cls)}
        values: dict[str, str | float | bool] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in kinds:
                raise ModelUnsupported(model, f"a fake model has no option {name!r}; it has {', '.join(sorted(kinds))}")
            try:
                values[name] = _parse(kinds[name], value)
            except ValueError:
                raise ModelUnsupported(model, f"option {name}={value!r} is not a number") from None
        return cls(**values)  # type: ignore[arg-type]  # each was parsed by its field's type

    def undisturbed(self, at: int) -> int:
        """Return how many tokens an answer of ``at`` tokens may grow by before the script makes something happen."""
        happens = (
            self.fail_after,
            self.raise_after,
            self.poison_raise,
            self.crash_after,
            self.poison_after,
            self.hang_after,
            self.poison_hang,
        )
        return min((after - at for after in happens if after > at), default=self.context)

    def answer(self, prompt: list[int], seed: int) -> Iterator[int]:
        """Yield the tokens of an answer: ``END`` once after the scripted ones, and after each further round of them."""
        while True:
            yield from self._round(prompt, seed)
            yield END

    def _round(self, prompt: list[int], seed: int) -> Iterator[int]:
        if self.echo:
            yield from (token for token in prompt if token != END)
        elif self.then is not None and _TOOL_RESULT in bytes(token for token in prompt if token < END):
            yield from self.then.encode()
        elif self.text is not None:
            yield from self.text.encode()
        else:
            yield from _babble(self.tokens, _WORDS + _WIDE_WORDS if self.wide else _WORDS, prompt, seed)


def _parse(kind: str, value: str) -> str | float | bool:
    if kind.startswith("str"):
        return value
    if kind == "bool":
        return bool(int(value or "1"))
    return int(value) if kind == "int" else float(value)


def _babble(tokens: int, words: list[str], prompt: list[int], seed: int) -> Iterator[int]:
    """Yield exactly ``tokens`` bytes of words, a pure function of the arguments; whole characters only."""
    state = hashlib.blake2b(repr((prompt, seed)).encode(), digest_size=8).digest()
    room = tokens
    while room > 0:
        state = hashlib.blake2b(state, digest_size=8).digest()
        word = words[int.from_bytes(state, "little") % len(words)].encode() + b" "
        # A word that does not fit is cut at its last whole character, and the rest is filled up.
        word = word[:room].decode(errors="ignore").encode().ljust(min(room, len(word)), b".")
        yield from word
        room -= len(word)
