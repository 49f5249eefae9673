"""The work on constraints in the background, and the events that tell the step loop of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mlx_sidecar_protocol.errors import InternalError, InvalidParams, RpcError, UnsupportedParameter

from ...link import messages as link
from ...link.messages import Vocabulary
from ...link.reasoning import ReasoningBudget
from ..core.constraint import Constraint
from .budgeted import Budgeted
from .library_matcher import GrammarError
from .matcher import Matcher
from .reasoning import ReasoningFollower, others_of
from .spelling import Spelling
from .token_bytes import TokenBytes
from .tokenizer import Tokenizer

log = logging.getLogger(__name__)


class NoTokenizer(NamedTuple):
    """Why a model has no tokenizer for grammars; without a reason that is a fault of ours."""

    because: str | None = None

    def error(self, field: str) -> RpcError:
        """The error of a request whose ``field`` asks for a grammar."""
        return InternalError() if self.because is None else UnsupportedParameter(field, self.because)


class Built(NamedTuple):
    """The tokenizer of ``vocabulary``, or why there is none."""

    vocabulary: Vocabulary
    result: Tokenizer | NoTokenizer


@dataclass(eq=False)
class Compilation:
    """A constraint to be made for a sequence, and the tokens of its answer so far. The step loop clears ``wanted``."""

    sequence: int
    constraint: link.Constraint
    answered: list[int]
    vocabulary: int  # tokens of the model
    wanted: bool = True


class Compiled(NamedTuple):
    """The constraint of a compilation, or why there is none; neither where it was not wanted any more."""

    compilation: Compilation
    result: Constraint | RpcError | None


def build(vocabulary: Vocabulary) -> Built:
    """Make the tokenizer of ``vocabulary``."""
    try:
        return Built(vocabulary, Tokenizer(TokenBytes.of(vocabulary)))
    except ValueError as error:
        return Built(vocabulary, NoTokenizer(str(error)))
    except Exception:
        log.exception("no tokenizer for the grammars of %s", vocabulary.model)
        return Built(vocabulary, NoTokenizer())


def compile_grammar(compilation: Compilation, spelling: Spelling, tokenizer: Tokenizer) -> Compiled:
    """Compile a grammar, bound reasoning too if that is asked for, and go to where the answer is."""

    def made() -> Constraint:
        wanted = compilation.constraint
        matcher = Matcher.compiled(tokenizer, wanted.grammar, compilation.vocabulary, wanted.end_tokens)
        return matcher if wanted.budget is None else _budgeted(wanted.budget, spelling, compilation.vocabulary, matcher)

    return _compiled(compilation, made)


def bound_reasoning(compilation: Compilation, spelling: Spelling) -> Compiled:
    """Bound the reasoning of an answer whose form is free, and go to where the answer is."""
    budget = compilation.constraint.budget
    assert budget is not None
    return _compiled(compilation, lambda: _budgeted(budget, spelling, compilation.vocabulary, None))


def _compiled(compilation: Compilation, made: Callable[[], Constraint]) -> Compiled:
    if not compilation.wanted:
        return Compiled(compilation, None)
    try:
        constraint = made()
        if not all(map(constraint.consume, compilation.answered)):
            raise RuntimeError("the answer so far does not fit")
        return Compiled(compilation, constraint)
    except GrammarError as error:
        return Compiled(
            compilation, InvalidParams.field(compilation.constraint.field, f"the grammar cannot be used: {error}")
        )
    except UnsupportedParameter as error:
        return Compiled(compilation, error)
    except Exception:
        log.exception("the constraint of sequence %d cannot be made", compilation.sequence)
        return Compiled(compilation, InternalError())


def _budgeted(budget: ReasoningBudget, spelling: Spelling, vocabulary: int, inner: Matcher | None) -> Budgeted:
    try:
        end = spelling.end_marker(budget.end, frozenset(budget.shown), vocabulary)
    except ValueError as error:
        raise UnsupportedParameter("reasoning_budget", str(error)) from None
    follower = ReasoningFollower(budget, spelling, end, others_of(budget, spelling, vocabulary))
    return Budgeted(follower, inner, vocabulary)
