"""Models that make vectors of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llm.models import EmbeddingModel

from .running import sidecar

_BATCH = 256  # texts of a request


class SidecarEmbeddingModel(EmbeddingModel):
    """A model that the sidecar of this process runs."""

    supports_text = True
    supports_binary = False
    batch_size = _BATCH

    def __init__(self, name: str) -> None:
        self.name = name
        self.model_id = f"mlx-sidecar/{name}"

    def embed_batch(self, items: Iterable[str | bytes], *, key: str | None = None) -> Iterator[list[float]]:
        """A vector for each text, in order. ``key`` is not used, because no model here needs one."""
        texts = [item for item in items if isinstance(item, str)]
        yield from (vector.tolist() for vector in sidecar().embed_all(self.name, texts, batch=_BATCH))
