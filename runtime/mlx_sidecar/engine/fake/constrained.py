"""A scripted answer becomes another one where a constraint holds it to a grammar or a budget."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from ...link.messages import Effort, Vocabulary
from ...link.token_table import packed
from ..core.constraint import Constraint
from .fake_script import END
from .ways_out import WaysOut


class Taken(NamedTuple):
    """The tokens of one step, which the constraint has consumed, and whether the answer is ``over`` behind them.

    ``stopped_by`` is the stop token that it then ends with. ``stuck``: nothing is allowed behind them.
    """

    tokens: list[int]
    effort: Effort | None = None
    over: bool = False
    stopped_by: int | None = None
    stuck: bool = False


def take(
    constraint: Constraint,
    scripted: int,
    stop_tokens: list[int],
    limit: int,
    *,
    closing: bool,
    ways: WaysOut,
    said: bytes,
) -> Taken:
    """Take the forced tokens, ``limit`` at most; else ``scripted`` if it is allowed; else another, or end the answer.

    Where any token may come, a scripted end that is no stop token is a space.

    Another is the one that ``ways`` out of the grammar lead to behind ``said``, the last bytes until there; the
    script is ``closing`` if it has been said to its end. An answer that is whole ends instead.
    """
    if constraint.ended:
        return Taken([], over=True)
    if forced := constraint.forced[:limit]:
        return _consumed(constraint, forced, stop_tokens, Effort(forced=len(forced)))
    if constraint.free:
        spoken = ord(" ") if scripted == END and END not in stop_tokens else scripted
        return _consumed(constraint, [spoken], stop_tokens)
    mask = constraint.mask()
    if not closing and mask[scripted]:
        return _consumed(constraint, [scripted], stop_tokens)
    if constraint.complete:
        return Taken([], over=True, stopped_by=END if END in stop_tokens else None)
    other = ways.other(constraint, mask, said, closing=closing)
    if other is None:
        return Taken([], stuck=True)
    return _consumed(constraint, [other], stop_tokens, Effort(masked=1))


def _consumed(constraint: Constraint, tokens: list[int], stop_tokens: list[int], effort: Effort | None = None) -> Taken:
    taken: list[int] = []
    for token in tokens:
        if token in stop_tokens:
            return Taken(taken, effort, over=True, stopped_by=token)
        if not constraint.consume(token):
            return Taken(taken, effort, stuck=True)
        taken.append(token)
    return Taken(taken, effort, constraint.ended)


def vocabulary(model: str) -> Vocabulary:
    """Return the tokens of a fake model: the bytes, and the end of the turn."""
    ends = array("I", [*range(1, END + 1), END])
    return Vocabulary(model, bytes(range(END)), ends.tobytes(), packed([END]))
