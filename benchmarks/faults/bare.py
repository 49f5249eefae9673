"""The sidecar without the work that lets streams outlive their engine, for the comparison in ``cost``.

    python -P bare.py serve …          the front
    python -P bare.py engine --fd …    its engine, started by that front

The engine writes no heartbeat. The front counts no bytes of the journal, keeps no suspects of an engine's death, and
does not look whether the engine hangs, because without a heartbeat it could not tell. Prompts and tokens are kept all
the same, because answers are made of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def main() -> None:
    if sys.argv[1] == "engine":
        _engine(sys.argv[1:])
    else:
        _front()


def _engine(argv: list[str]) -> None:
    from mlx_sidecar.engine import __main__ as engine
    from mlx_sidecar.link.heartbeat_page import HeartbeatPage

    for name in ("begin", "end", "note"):
        setattr(HeartbeatPage, name, _nothing)
    sys.argv = argv
    engine.main()


def _front() -> None:
    from mlx_sidecar import cli
    from mlx_sidecar.front.streams.journal import Journal
    from mlx_sidecar.front.streams.poison_search import PoisonSearch
    from mlx_sidecar.front.supervision import engine_process as process
    from mlx_sidecar.front.supervision.engine_connection import EngineConnection

    left_out: list[tuple[object, str, object]] = [
        (process, "engine_command", _bare(process.engine_command)),
        (EngineConnection, "_watch", _nothing),
        (PoisonSearch, "progressed", _nothing),
        (Journal, "holding", _unbounded),
    ]
    for owner, name, instead in left_out:
        assert hasattr(owner, name), f"{name} has another name now: nothing would be left out"
        setattr(owner, name, instead)
    cli.main(sys.argv[1:])


def _bare(command: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Return the command that starts an engine, with this module in place of the real one."""

    def bare(*given: object) -> list[str]:
        words = command(*given)
        at = words.index("-m")
        return [*words[:at], __file__, "engine", *words[at + 2 :]]

    return bare


def _nothing(*_: object, **__: object) -> None:
    """The substitute for a function that is left out; its result is false."""


@contextmanager
def _unbounded(*_: object) -> Iterator[None]:
    yield


if __name__ == "__main__":
    main()
