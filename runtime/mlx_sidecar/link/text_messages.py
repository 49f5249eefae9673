"""What crosses the link between the front and a text process: the files of a model by their path, texts and tokens.

Every message is a tagged msgspec struct. Each request names the directory it is about and the ``edition`` of it, which
changes when the front wants the files read anew: a text process keeps what it has read only to be faster, so any
request may go to any text process. ``op`` numbers a request and comes back in its reply. Token ids are 32 bits each
(``token_table.packed``), JSON is UTF-8.
"""

from __future__ import annotations

import msgspec

from .messages import Fault, Nearest
from .token_table import TokenTable


class ModelFolder(msgspec.Struct, frozen=True):
    """A model directory: ``name`` is what errors call the model, ``path`` is absolute."""

    name: str
    path: str
    edition: str = ""


# Front to text process.


class ReadModel(msgspec.Struct, frozen=True, tag=True):
    """Read the files, and say what is in them."""

    op: int
    folder: ModelFolder


class InspectWeights(msgspec.Struct, frozen=True, tag=True):
    """Read config, index and the headers of weights: whether an engine may be given the directory."""

    op: int
    folder: ModelFolder


class Encode(msgspec.Struct, frozen=True, tag=True):
    """A prompt as tokens. ``add_special``: with what the tokenizer puts around it; ``pieces``: with their strings.

    ``escape``: nothing of ``text`` becomes a control token.
    """

    op: int
    folder: ModelFolder
    text: str
    add_special: bool
    escape: bool = False
    pieces: bool = False


class Decode(msgspec.Struct, frozen=True, tag=True):
    """Each of ``runs`` of tokens as text."""

    op: int
    folder: ModelFolder
    runs: list[bytes]
    skip_special: bool


class RenderChat(msgspec.Struct, frozen=True, tag=True):
    """A chat under the model's template, as tokens, and as text where that is wanted.

    ``chat`` is JSON with the members messages, tools, add_generation_prompt, template_args and escape.
    """

    op: int
    folder: ModelFolder
    chat: bytes
    want_text: bool


class ExplainMiss(msgspec.Struct, frozen=True, tag=True):
    """Where a prompt left the ``nearest`` known one. ``given`` is JSON: its source and, of a chat, its parts."""

    op: int
    folder: ModelFolder
    given: bytes
    tokens: bytes
    nearest: Nearest | None
    uncacheable: str


class CompileTemplates(msgspec.Struct, frozen=True, tag=True):
    """Compile the chat templates and find out which messages they read, so that the first chat need not wait for it."""

    op: int
    folder: ModelFolder


ToText = ReadModel | InspectWeights | CompileTemplates | Encode | Decode | RenderChat | ExplainMiss


# Text process to front.


class TextReady(msgspec.Struct, frozen=True, tag=True):
    """First message of a text process."""

    pid: int


class ModelRead(msgspec.Struct, frozen=True, tag=True):
    """``vocabulary`` and ``context_length`` count tokens; ``context_length`` is None where no file says."""

    op: int
    vocabulary: int
    context_length: int | None
    eos_tokens: list[int]
    has_chat_template: bool
    table: TokenTable


class Inspected(msgspec.Struct, frozen=True, tag=True):
    """The directory is sound, as far as it can be seen without its weights."""

    op: int


class TemplatesCompiled(msgspec.Struct, frozen=True, tag=True):
    """The chat templates, if the model has any, are ready in the process that says so."""

    op: int


class Encoded(msgspec.Struct, frozen=True, tag=True):
    op: int
    tokens: bytes
    pieces: list[str] | None = None


class Decoded(msgspec.Struct, frozen=True, tag=True):
    op: int
    texts: list[str]


class TextWarning(msgspec.Struct, frozen=True):
    """What was not refused and yet has to be told, as in the contract's results."""

    kind: str
    message: str


class RenderedChat(msgspec.Struct, frozen=True, tag=True):
    op: int
    tokens: bytes
    text: str | None = None
    warnings: list[TextWarning] = []


class Explained(msgspec.Struct, frozen=True, tag=True):
    """``explanation`` is the contract's CacheExplanation as JSON."""

    op: int
    explanation: bytes


class TextRefused(msgspec.Struct, frozen=True, tag=True):
    """The answer to a request that cannot be done."""

    op: int
    fault: Fault


TextReply = ModelRead | Inspected | TemplatesCompiled | Encoded | Decoded | RenderedChat | Explained
FromText = TextReady | TextReply | TextRefused
