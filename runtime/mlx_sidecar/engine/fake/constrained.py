"""A scripted answer becomes another one where a constraint holds it to a grammar or a budget."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from ...link.messages import Effort, Vocabulary
from ...link.token_table import packed
from ..core.constraint import Constraint
from .fake_script import END

# Bytes that bring an answer in JSON to its end soonest: they close a string, and what holds it.
_CLOSING = b'"}]'


class Taken(NamedTuple):
    """The tokens of one step, which the constraint has consumed, and whether the answer is ``over`` behind them.

    ``stopped_by`` is the stop token that it then ends with. ``stuck``: nothing is allowed behind them.
    """

    tokens: list[int]
    effort: Effort | None = None
    over: bool = False
    stopped_by: int | None = None
    stuck: bool = False


def take(constraint: Constraint, scripted: int, stop_tokens: list[int], limit: int, *, closing: bool) -> Taken:
    """Take the forced tokens, ``limit`` at most; else ``scripted`` if it is allowed; else another, or end the answer.

    Where any token may come, a scripted end that is no stop token is a space.

    Another is the lowest allowed one, unless the script is ``closing``, because it has been said to its end: then it is
    one that brings the answer to its end. An answer that is whole ends instead.
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
    allowed = [token for token in mask.nonzero()[0].tolist() if token != END]
    if not allowed:
        return Taken([], stuck=True)
    return _consumed(constraint, [_other(allowed, closing=closing)], stop_tokens, Effort(masked=1))


def _consumed(constraint: Constraint, tokens: list[int], stop_tokens: list[int], effort: Effort | None = None) -> Taken:
    taken: list[int] = []
    for token in tokens:
        if token in stop_tokens:
            return Taken(taken, effort, over=True, stopped_by=token)
        if not constraint.consume(token):
            return Taken(taken, effort, stuck=True)
        taken.append(token)
    return Taken(taken, effort, constraint.ended)


def _other(allowed: list[int], *, closing: bool) -> int:
    if not closing:
        return min(allowed)
    closers = [token for token in _CLOSING if token in allowed]
    # A space may be allowed behind a space, and so on.
    return closers[0] if closers else min(allowed, key=lambda token: (token <= ord(" "), token))


def vocabulary(model: str) -> Vocabulary:
    """Return the tokens of a fake model: the bytes, and the end of the turn."""
    ends = array("I", [*range(1, END + 1), END])
    return Vocabulary(model, bytes(range(END)), ends.tobytes(), packed([END]))
