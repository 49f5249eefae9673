"""The budget of an answer's reasoning, on its way from the host's request to the engine's constraint."""

from __future__ import annotations

import msgspec

from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams

from ...link.messages import Constraint, Vocabulary
from ...link.reasoning import ReasoningBudget
from .model_text import ModelText
from .offload import in_thread
from .parsing import Parsing, reasons

FIELD = "reasoning_budget"

_CHANNEL, _ANALYSIS, _CHANNEL_END = b"<|channel|>", b"<|channel|>analysis<|message|>", b"<|end|>"
_OTHER_CHANNELS = [b"commentary", b"final"]

Constrained = tuple[Constraint, Vocabulary]


async def with_budget(
    constrained: Constrained | None, params: GenerateParams, text: ModelText, parsing: Parsing | None
) -> Constrained | None:
    """The constraint of an answer, with the budget of its reasoning if the host sets one.

    Raises UnsupportedParameter naming ``reasoning_budget`` if nothing tells the model's reasoning apart.
    """
    if params.reasoning_budget is None:
        return constrained
    if parsing is None or not reasons(parsing.formats):
        raise UnsupportedParameter(FIELD, "its chat template does not tell how it writes reasoning")
    of_tokens = await in_thread(None, text.vocabulary_bytes)
    if of_tokens is None:
        raise UnsupportedParameter(FIELD, "only the model's tokenizer can tell the bytes of its tokens")
    free = Constraint("", sorted(text.eos_tokens)), Vocabulary(params.model, *of_tokens)
    constraint, vocabulary = constrained or free
    shown = {text.table.find(string) for string in parsing.shown}
    budget = _budget(params.reasoning_budget, parsing, sorted(text.table.special & shown))
    return msgspec.structs.replace(constraint, budget=budget), vocabulary


def _budget(tokens: int, parsing: Parsing, shown: list[int]) -> ReasoningBudget:
    tools, markers = parsing.formats.tools, parsing.formats.reasoning
    # A channel may be opened several times, and no prompt ends in one.
    if markers is None or (tools is not None and tools.layout == "harmony"):
        return ReasoningBudget(
            _ANALYSIS,
            _CHANNEL_END,
            thinking=False,
            tokens=tokens,
            anywhere=True,
            shown=shown,
            fork=_CHANNEL,
            instead=_OTHER_CHANNELS,
        )
    return ReasoningBudget(markers.begin.encode(), markers.end.encode(), parsing.thinking, tokens, shown=shown)
