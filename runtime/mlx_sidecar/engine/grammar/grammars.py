"""A sequence that has a constraint waits until it is made, its grammar compiled, and nothing else does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mlx_sidecar_protocol.errors import InternalError, RpcError, UnsupportedParameter

from ...link.faults import fault_of
from ...link.messages import Vocabulary
from ..core.constraint import Constraint
from ..core.memory_ledger import GRAMMARS, MemoryLedger, Owner
from ..core.preparer import Ending, Preparer
from ..core.sequence import Sequence
from ..resident_models import ResidentModels
from .events import Built, Compilation, Compiled, NoTokenizer, bound_reasoning, build, compile_grammar
from .library import unavailable
from .spelling import Spelling
from .tokenizer import Tokenizer
from .workers import Workers

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Model:
    """A model's vocabulary, its tokenizer once a constraint has needed it, and the compilations that wait for that."""

    vocabulary: Vocabulary
    spelling: Spelling = field(init=False)
    building: bool = False
    result: Tokenizer | NoTokenizer | None = None
    waiting: list[Compilation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spelling = Spelling(self.vocabulary)


class _Waiting(NamedTuple):
    sequence: Sequence
    compilation: Compilation


class Grammars(Preparer):
    """Has tokenizers built and grammars compiled on other threads; a tokenizer goes with its model."""

    name = "grammar"

    def __init__(self, models: ResidentModels, ledger: MemoryLedger, post: Callable[[object], None]) -> None:
        self._residents = models
        self._ledger = ledger
        self._workers = Workers(post)
        self._models: dict[str, _Model] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._there: list[Sequence] = []
        self._over: list[Ending] = []

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take in the tokens of a model. Raises ``ModelNotLoaded``."""
        self._residents.resident(vocabulary.model)
        known = self._models.get(vocabulary.model)
        if known is not None and known.vocabulary == vocabulary:
            return
        waiting = [] if known is None else self._forget(vocabulary.model)
        model = self._models[vocabulary.model] = _Model(vocabulary)
        for compilation in waiting:
            self._begin(model, compilation)

    def check(self, sequence: Sequence) -> None:
        """Raise ``UnsupportedParameter`` where nothing can follow grammars, ``InternalError`` without a vocabulary."""
        constraint = sequence.asked.constraint
        if constraint is None:
            return
        if constraint.grammar and (because := unavailable()):
            raise UnsupportedParameter(constraint.field, because)
        if self._model_of(sequence) is None:
            log.error("sequence %d has a constraint, and no vocabulary came before it", sequence.id)
            raise InternalError()

    def arrived(self, sequence: Sequence, now: float) -> bool:
        """Have the constraint of ``sequence`` made, if it asks for one; return whether it does."""
        constraint = sequence.asked.constraint
        if constraint is None or (model := self._model_of(sequence)) is None:
            return False
        answered = sequence.tokens[len(sequence.tokens) - sequence.emitted :]
        vocabulary = self._residents.resident(sequence.model).loaded.card.vocabulary
        compilation = Compilation(sequence.id, constraint, answered, vocabulary)
        self._waiting[sequence.id] = _Waiting(sequence, compilation)
        self._begin(model, compilation)
        return True

    def told(self, event: object, now: float) -> None:
        """Take in that a tokenizer was built, or a constraint made."""
        if isinstance(event, Built):
            self._built(event)
        elif isinstance(event, Compiled) and event.result is not None:
            self._settle(event.compilation, event.result)

    def ready(self, now: float) -> Iterable[Sequence]:
        """Return the sequences whose constraints are made, and forget models that are gone."""
        resident = {name for name, _ in self._residents.loaded()} if self._models else ()
        for name in [name for name in self._models if name not in resident]:
            self._forget(name)
        there, self._there = self._there, []
        return there

    def endings(self) -> Iterable[Ending]:
        """Return the sequences whose constraints cannot be made, or whose answers were whole before."""
        over, self._over = self._over, []
        return over

    def left(self, sequence: Sequence) -> None:
        """Let nothing more be done for ``sequence``."""
        if (waiting := self._waiting.pop(sequence.id, None)) is not None:
            waiting.compilation.wanted = False
        self._there = [other for other in self._there if other is not sequence]
        self._over = [ending for ending in self._over if ending.sequence is not sequence]

    def _model_of(self, sequence: Sequence) -> _Model | None:
        known = self._models.get(sequence.model)
        if known is None and (own := self._residents.resident(sequence.model).loaded.vocabulary) is not None:
            known = self._models[sequence.model] = _Model(own)
        return known

    def _begin(self, model: _Model, compilation: Compilation) -> None:
        if not compilation.constraint.grammar:
            self._workers.compile(partial(bound_reasoning, compilation, model.spelling))
        elif isinstance(model.result, Tokenizer):
            self._workers.compile(partial(compile_grammar, compilation, model.spelling, model.result))
        elif model.result is not None:
            self._settle(compilation, model.result.error(compilation.constraint.field))
        else:
            model.waiting.append(compilation)
            if not model.building:
                model.building = True
                self._workers.build(partial(build, model.vocabulary))

    def _built(self, built: Built) -> None:
        model = self._models.get(built.vocabulary.model)
        if model is None or model.vocabulary is not built.vocabulary:
            return  # the model is gone
        model.result = built.result
        if isinstance(built.result, Tokenizer):
            self._ledger.reserve(Owner(GRAMMARS, built.vocabulary.model), built.result.held_bytes)
        waiting, model.waiting = model.waiting, []
        for compilation in waiting:
            if compilation.wanted:
                self._begin(model, compilation)

    def _settle(self, compilation: Compilation, result: Constraint | RpcError) -> None:
        if not compilation.wanted:
            return
        sequence = self._waiting.pop(compilation.sequence).sequence
        if isinstance(result, RpcError):
            self._over.append(Ending(sequence, "error", fault_of(result)))
            return
        sequence.constraint = None if result.lifted else result
        if result.ended:
            self._over.append(Ending(sequence, "stop"))
        elif sequence.limit <= 0:  # it had generated all it may before the restart
            self._over.append(Ending(sequence, "length"))
        else:
            self._there.append(sequence)

    def _forget(self, name: str) -> list[Compilation]:
        """Drop what is known of a model; return the compilations that wait for its tokenizer."""
        model = self._models.pop(name)
        if isinstance(model.result, Tokenizer):
            self._ledger.release(Owner(GRAMMARS, name))
        return model.waiting
