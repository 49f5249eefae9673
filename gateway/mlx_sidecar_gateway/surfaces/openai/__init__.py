"""OpenAI's interface: responses, chat completions, completions, embeddings, models; and others' ``rerank``."""

from __future__ import annotations

from ..surface import AnswerRoute, GenerateRoute, Surface
from . import chat, completions, models, responses, vectors
from .errors import body_of

SURFACE = Surface(
    name="openai",
    routes=(
        GenerateRoute("/chat/completions", chat.PARAMETERS, chat.read),
        GenerateRoute("/completions", completions.PARAMETERS, completions.read),
        *responses.ROUTES,
        AnswerRoute("POST", "/embeddings", vectors.embeddings, vectors.EMBEDDINGS, computes=True),
        AnswerRoute("POST", "/rerank", vectors.rerank, vectors.RERANK, computes=True),
        AnswerRoute("GET", "/models", models.listed),
        AnswerRoute("GET", "/models/{model:path}", models.one),
    ),
    fault=body_of,
    # Clients know no sessions: one that is not known was lost together with the sidecar.
    statuses={"unknown_session": 503},
)
