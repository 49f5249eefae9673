"""A constraint holds a sequence's answer to a grammar and its reasoning to a budget, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Constraint(Protocol):
    """The state of one answer. It is used by the step loop's thread alone, except for ``mask``.

    All that it tells depends on what was asked for and the tokens consumed so far alone, so that an answer is the same
    after a preemption or the engine's death.
    """

    @property
    def forced(self) -> list[int]:
        """The tokens that there is no choice about, to be consumed next and in this order; often none.

        ``consume`` of the first of them leaves the rest. Not to be changed.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether the answer is whole, and nothing may follow it."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer is whole as it is; more may be allowed to follow."""
        ...

    @property
    def free(self) -> bool:
        """Whether any token may come next."""
        ...

    @property
    def lifted(self) -> bool:
        """Whether any tokens may come from here on, so that the constraint need not be followed."""
        ...

    def consume(self, token: int) -> bool:
        """Go on behind ``token`` if it is allowed, else change nothing and return False.

        A token that ends the answer (an end token) is allowed where it is complete, and changes nothing.
        """
        ...

    def allowed(self, tokens: list[int]) -> int:
        """Return how many of ``tokens``, in a row, are allowed; changes nothing."""
        ...

    def mask(self) -> NDArray[np.bool_]:
        """Return which tokens are allowed: [vocabulary]. None may be: then the answer cannot go on.

        Another thread may call it while the step loop's does nothing with the constraint.
        """
        ...
