"""Finds the sidecar: by the host's argument, by the environment variable ``MLX_SIDECAR``, or on the search path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

_NAME = "mlx-sidecar"
_VARIABLE = "MLX_SIDECAR"


class ExecutableNotFound(FileNotFoundError):
    """No ``mlx-sidecar`` was found; the message says what was tried and what to install."""

    def __init__(self, tried: str) -> None:
        super().__init__(
            f"no mlx-sidecar: {tried}. docs/install.md in its repository says how to install it; "
            f"the environment variable {_VARIABLE} or command= says where it is"
        )


def find_command(command: str | os.PathLike[str] | Sequence[str] | None, env: Mapping[str, str] | None) -> list[str]:
    """The words of the command before ``serve``.

    Args:
        command: A path or a name to look up; a sequence of words is used as it is; None to find it.
        env: The environment of the new process; None for our own.

    Raises:
        ExecutableNotFound: No such program was found.
        ValueError: The sequence is empty.
    """
    env = os.environ if env is None else env
    if command is not None and not isinstance(command, str | os.PathLike):
        if not command:
            raise ValueError("command: no words")
        first, *rest = command
        return [_look_up(first, env, f"command names {first!r}"), *rest]
    if command is not None:
        return [_look_up(os.fspath(command), env, f"command names {os.fspath(command)!r}")]
    if named := env.get(_VARIABLE):
        return [_look_up(named, env, f"{_VARIABLE} names {named!r}")]
    return [_look_up(_NAME, env, f"{_VARIABLE} is not set, and {_NAME} is not on the search path")]


def _look_up(name: str, env: Mapping[str, str], tried: str) -> str:
    found = shutil.which(name, path=env.get("PATH"))
    if found is None:
        raise ExecutableNotFound(tried)
    return found
