"""The ledger's totals are what a sum over its owners would be, whatever was reserved and released before."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar.engine.core.memory_ledger import CACHE, SEQUENCES, WEIGHTS, MemoryLedger, Owner

LIMIT_BYTES = 1000
KINDS = [WEIGHTS, SEQUENCES, CACHE]
owners = st.builds(Owner, st.sampled_from(KINDS), st.integers(0, 3))
sizes = st.integers(0, 400)


class LedgerMachine(RuleBasedStateMachine):
    """Owners that come, grow, shrink and go in any order; some count for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger(LIMIT_BYTES)
        self.held: dict[Owner, int] = {}
        self.metered: dict[Owner, int] = {}

    @rule(owner=owners, nbytes=sizes)
    def reserve(self, owner: Owner, nbytes: int) -> None:
        if owner not in self.metered:
            self.ledger.reserve(owner, nbytes)
            self.held[owner] = nbytes

    @rule(owner=owners, nbytes=sizes)
    def count_for_itself(self, owner: Owner, nbytes: int) -> None:
        if owner not in self.held:
            self.ledger.meter(owner, lambda: self.metered[owner])
            self.metered[owner] = nbytes

    @precondition(lambda self: self.metered)
    @rule(data=st.data(), nbytes=sizes)
    def change(self, data: st.DataObject, nbytes: int) -> None:
        self.metered[data.draw(st.sampled_from(sorted(self.metered)))] = nbytes

    @rule(owner=owners)
    def release(self, owner: Owner) -> None:
        if owner in self.held or owner in self.metered:
            self.ledger.release(owner)
            self.held.pop(owner, None)
            self.metered.pop(owner, None)
        else:
            with pytest.raises(KeyError):
                self.ledger.release(owner)

    @invariant()
    def totals_are_sums(self) -> None:
        entries = [*self.held.items(), *self.metered.items()]
        assert self.ledger.held_bytes == sum(nbytes for _, nbytes in entries)
        assert self.ledger.free_bytes == LIMIT_BYTES - self.ledger.held_bytes
        for kind in KINDS:
            assert self.ledger.bytes_of(kind) == sum(nbytes for owner, nbytes in entries if owner.kind == kind)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(deadline=None, max_examples=50, stateful_step_count=20)
