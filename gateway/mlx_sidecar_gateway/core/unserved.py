"""Paths of other servers that are not served here, so that a client is told what it misses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# By the beginning of the path, without /v1; the longest that fits counts.
_MISSING: Final = {
    "/assistants": "assistants are",
    "/audio": "speech and transcription are",
    "/batches": "batches are",
    "/classify": "classification is",
    "/complete": "text completion of Anthropic's older interface is",
    "/containers": "containers are",
    "/conversations": "stored conversations are",
    "/embedding": "embeddings are",
    "/evals": "evaluations are",
    "/files": "files are",
    "/fine-tunes": "fine-tuning is",
    "/fine_tuning": "fine-tuning is",
    "/images": "images are",
    "/infill": "filling in between two texts is",
    "/messages/batches": "batches of messages are",
    "/moderations": "moderation is",
    "/organization": "administration of an account is",
    "/organizations": "administration of an account is",
    "/pooling": "embeddings are",
    "/realtime": "speech in real time is",
    "/reranking": "reranking is",
    "/responses": "the interface Responses is",
    "/score": "scoring of texts is",
    "/skills": "skills are",
    "/threads": "assistants are",
    "/uploads": "files are",
    "/vector_stores": "vector stores are",
    "/videos": "videos are",
}


def because_not_served(path: str, served: Sequence[str]) -> str:
    """Why a request for ``path`` is answered 404, as a sentence that names the thing, if it is a known one.

    ``served`` are the paths that generate, without ``/v1``, which the sentence names too.
    """
    bare = path.removeprefix("/v2").removeprefix("/v1").rstrip("/") or path
    known = [begin for begin in _MISSING if bare == begin or bare.startswith(f"{begin}/")]
    what = _MISSING[max(known, key=len)] if known and not set(known) & set(served) else "this path is"
    return f"{path}: {what} not served here, but {', '.join(served)} are"
