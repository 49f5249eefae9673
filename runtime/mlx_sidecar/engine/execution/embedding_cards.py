"""Says on a model's card whether and how it embeds texts and scores documents."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx

from mlx_sidecar_protocol.errors import ModelLoadFailed

from ...checkpoint.embedding import EmbeddingFiles
from ...checkpoint.model_directory import Directory
from ...link.control_messages import Capability, EmbeddingCard
from .encoders.encoder import Sizes
from .forward import Forward, Hidden, Part, StepInput

_ENCODER = "it is an encoder, which generates nothing"


def of_encoder(model: str, sizes: Sizes, files: EmbeddingFiles) -> tuple[EmbeddingCard | None, dict[Capability, str]]:
    """The card of an encoder, and why it lacks what it lacks. Raises ModelLoadFailed."""
    without = {0: "its checkpoint has no classifier", 1: ""}
    lacking: dict[Capability, str] = {
        "prefix_cache": "an encoder keeps no keys and values",
        "response_format": _ENCODER,
        "speculation": _ENCODER,
        "draft": _ENCODER,
        "adapter": "adapters are for models that generate",
        "generate": _ENCODER,
        "embed": files.objection,
        "rerank": without.get(sizes.labels, f"its classifier has {sizes.labels} labels, and a relevance is one"),
    }
    return _card(model, files, sizes.width, sizes.context), lacking


def of_decoder(
    model: str, directory: Directory, files: EmbeddingFiles, forward: Forward
) -> tuple[EmbeddingCard | None, dict[Capability, str]]:
    """The card of a model that generates; there is none if no file says that it embeds, or if it cannot.

    ``forward`` has no rows. Raises ModelLoadFailed.
    """
    objection = files.objection
    if directory.config.get("use_bidirectional_attention") or directory.config.get("is_causal") is False:
        objection = "its attention is bidirectional, and is computed as causal"
    if not objection and forward.name not in ("native", "flat"):
        objection = f"its forward ({forward.name}) gives no hidden states"
    lacking: dict[Capability, str] = {"generate": "", "embed": objection, "rerank": _reranks(directory)}
    if objection:
        return None, lacking
    width = _width(forward)
    if files.modules and files.pooling is None:
        # Converters leave the folder out. Under causal attention the last token alone has seen all.
        files = replace(files, pooling="last")
    instructs = files.modules and directory.config["model_type"] == "qwen3"
    return _card(model, files, width, directory.context_length, instructs=instructs), lacking


def _card(model: str, files: EmbeddingFiles, width: int, context: int, *, instructs: bool = False) -> EmbeddingCard:
    if files.dense and (inputs := files.dense[0].inputs) != width:
        raise ModelLoadFailed(model, f"its Dense takes {inputs} numbers, and its hidden states have {width}")
    return EmbeddingCard(
        dimensions=files.dense[-1].outputs if files.dense else width,
        max_tokens=min(context, files.max_tokens or context),
        pooling=files.pooling,
        normalize=files.normalize,
        instructs=instructs,
        prompts=dict(files.prompts),
    )


def _width(forward: Forward) -> int:
    """The numbers of a hidden state of ``forward``, by one token."""
    forward.open(0, 1)
    try:
        output = forward.run(StepInput([Part(0, 1, Hidden(1))], mx.array([0])))
        output.wait()
        return output.states().shape[-1]
    finally:
        forward.close(0)


def _reranks(directory: Directory) -> str:
    known = directory.config["model_type"] == "qwen3"
    return "" if known else "it has no classifier, and is not of the family of Qwen3-Reranker"
