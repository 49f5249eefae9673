"""Messages between the front and a text process, which carry paths, texts and tokens.

Every message is a tagged msgspec struct. Each request names its model directory and an ``edition``, which changes when
the files are to be read anew. Any request may go to any text process, because these keep files only for speed. ``op``
numbers a request and comes back in its reply. Token ids are 32 bits each (``token_table.packed``), JSON is UTF-8.
"""

from __future__ import annotations

import msgspec

from .forms import NOTHING_BEFORE, AnswerForm, Before
from .messages import Fault, Nearest
from .token_table import TokenTable


class ModelFolder(msgspec.Struct, frozen=True):
    """A model directory; ``name`` is the model's name in errors, ``path`` is absolute."""

    name: str
    path: str
    edition: str = ""


# Front to text process.


class ReadModel(msgspec.Struct, frozen=True, tag=True):
    """Read tokenizer, templates and configs of the directory; answered by ``ModelRead``.

    ``signs``: texts that are looked for in its chat templates.
    """

    op: int
    folder: ModelFolder
    signs: list[str] = []


class InspectWeights(msgspec.Struct, frozen=True, tag=True):
    """Check config, index and headers of weights before an engine loads the directory; answered by ``Inspected``."""

    op: int
    folder: ModelFolder


class Encode(msgspec.Struct, frozen=True, tag=True):
    """Encode a prompt; answered by ``Encoded``. ``add_special``: with the tokenizer's special tokens around it.

    ``escape``: no part of ``text`` becomes a control token. ``pieces``: answer the string of each token too.
    """

    op: int
    folder: ModelFolder
    text: str
    add_special: bool
    escape: bool = False
    pieces: bool = False


class EncodeTexts(msgspec.Struct, frozen=True, tag=True):
    """Encode texts with the tokenizer's special tokens around each; answered by ``EncodedTexts``.

    ``before``: the first text of a pair with each of ``texts``; None: each is alone. ``limit``: texts of more tokens
    are cut before the special tokens behind them; 0: none is cut. ``ends``: an end token stands behind each.
    """

    op: int
    folder: ModelFolder
    texts: list[str]
    before: str | None = None
    limit: int = 0
    ends: bool = False


class Decode(msgspec.Struct, frozen=True, tag=True):
    """Decode each of ``runs`` of packed tokens; answered by ``Decoded``."""

    op: int
    folder: ModelFolder
    runs: list[bytes]
    skip_special: bool


class RenderChat(msgspec.Struct, frozen=True, tag=True):
    """Render a chat under the model's template and encode it; answered by ``RenderedChat``.

    ``chat`` is JSON with the members messages, tools, add_generation_prompt, template_args and escape. ``want_text``:
    answer the text too.
    """

    op: int
    folder: ModelFolder
    chat: bytes
    want_text: bool


class RenderTurn(msgspec.Struct, frozen=True, tag=True):
    """Find out how a chat goes on behind an answer; answered by ``RenderedTurn``.

    ``chat`` is JSON as in ``RenderChat``. The answer is its message number ``answered``, and was computed as the packed
    tokens ``answer``.
    """

    op: int
    folder: ModelFolder
    chat: bytes
    answered: int
    answer: bytes


class ExplainMiss(msgspec.Struct, frozen=True, tag=True):
    """Explain where a prompt left the ``nearest`` known one; answered by ``Explained``.

    ``given`` is JSON: the prompt's source and, of a chat, its parts.
    """

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


class Constrain(msgspec.Struct, frozen=True, tag=True):
    """Make a grammar of the ``form`` that an answer must have behind ``before``; answered by ``Constrained``.

    No file is read for it: ``folder`` names the form and its digest, so that a form that ends processes is refused, and
    no model.
    """

    op: int
    folder: ModelFolder
    form: AnswerForm
    before: Before = NOTHING_BEFORE


ToText = (
    ReadModel
    | InspectWeights
    | CompileTemplates
    | Encode
    | EncodeTexts
    | Decode
    | RenderChat
    | RenderTurn
    | ExplainMiss
    | Constrain
)


# Text process to front.


class TextReady(msgspec.Struct, frozen=True, tag=True):
    """The first message of a text process."""

    pid: int


class ModelRead(msgspec.Struct, frozen=True, tag=True):
    """The text side of a model. ``context_length`` is in tokens, None where no file says; ``vocabulary`` counts ids.

    ``mentions``: those of the signs that stand in its chat templates.
    """

    op: int
    vocabulary: int
    context_length: int | None
    eos_tokens: list[int]
    has_chat_template: bool
    table: TokenTable
    mentions: list[str] = []


class Inspected(msgspec.Struct, frozen=True, tag=True):
    """The directory passed the checks of config, index and headers, and this is what they tell.

    ``parameters`` are counted unpacked, ``dtype`` is that of most bytes, ``context_length`` is in tokens.
    """

    op: int
    architecture: str = ""
    parameters: int = 0
    dtype: str = ""
    quantization: str = ""
    context_length: int = 0


class TemplatesCompiled(msgspec.Struct, frozen=True, tag=True):
    """The chat templates, if the model has any, are ready in the process that says so."""

    op: int


class Encoded(msgspec.Struct, frozen=True, tag=True):
    op: int
    tokens: bytes
    pieces: list[str] | None = None


class EncodedTexts(msgspec.Struct, frozen=True, tag=True):
    """The packed tokens of each text; ``seconds``: where the second text of each pair begins, by type ids; else 0.

    ``cut`` are the numbers of texts that were cut.
    """

    op: int
    tokens: list[bytes]
    seconds: list[int]
    cut: list[int]


class Decoded(msgspec.Struct, frozen=True, tag=True):
    op: int
    texts: list[str]


class TextWarning(msgspec.Struct, frozen=True):
    """A warning about a chat that was rendered all the same, as in the contract's results."""

    kind: str
    message: str


class RenderedChat(msgspec.Struct, frozen=True, tag=True):
    op: int
    tokens: bytes
    text: str | None = None
    warnings: list[TextWarning] = []


class RenderedTurn(msgspec.Struct, frozen=True, tag=True):
    """``tail``: the tokens behind those of the answer; None where they cannot be told apart.

    ``whole``: those of the whole chat as the template renders it.
    """

    op: int
    tail: bytes | None
    whole: bytes
    warnings: list[TextWarning] = []


class Explained(msgspec.Struct, frozen=True, tag=True):
    """The contract's CacheExplanation as JSON."""

    op: int
    explanation: bytes


class Constrained(msgspec.Struct, frozen=True, tag=True):
    """A grammar in a syntax of llguidance, which can be compiled."""

    op: int
    grammar: str


class TextRefused(msgspec.Struct, frozen=True, tag=True):
    """The answer to a request that failed."""

    op: int
    fault: Fault


TextReply = (
    ModelRead
    | Inspected
    | TemplatesCompiled
    | Encoded
    | EncodedTexts
    | Decoded
    | RenderedChat
    | RenderedTurn
    | Explained
    | Constrained
)
FromText = TextReady | TextReply | TextRefused
