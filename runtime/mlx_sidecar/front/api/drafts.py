"""Where proposals come from, and whether one model can make them for another: ``speculation``, ``check_draft``."""

from __future__ import annotations

from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams

from ...link.control_messages import ModelCard
from ...link.messages import Speculation
from ...link.token_table import TokenTable
from .model_catalog import ModelCatalog
from .offload import in_thread

FIELD = "speculation"


async def speculation_of(params: GenerateParams, card: ModelCard, catalog: ModelCatalog) -> Speculation | None:
    """The request's sources of proposals; None for none.

    Raises UnsupportedParameter if the model cannot take back tokens, or the draft cannot or has other ones, and as
    ``ModelCatalog.ready`` for the draft.
    """
    asked = params.proposals
    if asked is None:
        return None
    if because := card.lacks("speculation"):
        raise UnsupportedParameter(FIELD, because)
    if asked.draft is not None:
        await _check_draft(catalog, params.model, asked.draft)
    return Speculation(asked.ngram, asked.draft, asked.max_tokens or 0)


async def _check_draft(catalog: ModelCatalog, model: str, draft: str) -> None:
    card, _, _ = await catalog.ready(draft)
    because = card.lacks("draft") or await difference_of(catalog, model, draft)
    if because:
        raise UnsupportedParameter(f"{FIELD}.draft", f"{draft!r} cannot make proposals for it: {because}")


async def difference_of(catalog: ModelCatalog, model: str, draft: str) -> str | None:
    """Why ``draft`` cannot make proposals for ``model``; None if it can. Raises as ``ModelCatalog.text``."""
    ours, theirs = await catalog.text(model), await catalog.text(draft)
    return await in_thread(None, difference, ours.table, theirs.table)


def difference(model: TokenTable, draft: TokenTable) -> str | None:
    """Why a token of one is not one of the other, in words; None if all ids, texts and flags are the same."""
    if model == draft:
        return None
    if model.family != draft.family:
        return "their tokenizers turn tokens into text in different ways"
    ours, theirs = dict(model.items()), dict(draft.items())
    for token in sorted(ours.keys() | theirs.keys()):
        if (one := ours.get(token)) != (other := theirs.get(token)):
            return f"token {token} is {_quoted(one)} in the model and {_quoted(other)} in the draft"
    if model.special != draft.special:
        return f"token {min(model.special ^ draft.special)} is special in one of them only"
    return None if model.texts == draft.texts else "a token's text is not the same"


def _quoted(string: str | None) -> str:
    return "missing" if string is None else repr(string[:64])
