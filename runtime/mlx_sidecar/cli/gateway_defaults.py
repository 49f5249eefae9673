"""The option ``--default`` of ``gateway``: parameters of answers whose requests do not name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .failures import Refused
from .sampling import json_value
from .standard_streams import text_of


def defaults_of(words: Sequence[str]) -> dict[str, Any]:
    """The parameters of ``NAME=VALUE``; ``stop`` may be there several times. Raises ``Refused`` for a wrong one."""
    from mlx_sidecar_gateway.core.defaults import NAMES
    from mlx_sidecar_protocol.errors import InvalidParams
    from mlx_sidecar_protocol.generate import GenerateParams

    found: dict[str, Any] = {}
    for word in map(text_of, words):
        name, equals, text = word.partition("=")
        if not equals or name not in NAMES:
            raise Refused(f"--default {word}: is not NAME=VALUE with a name of {', '.join(NAMES)}")
        if name == "stop":
            found[name] = [*found.get(name, ()), text]
        elif name in found:
            raise Refused(f"--default {word}: {name} is there twice")
        else:
            found[name] = json_value(text)
    try:
        GenerateParams.parse({"model": "any", "prompt": "any", **found})
    except InvalidParams as error:
        raise Refused(f"--default {error.message}") from error
    return found
