"""Time and size limits of requests to a text process, kept by both ends of its link."""

from __future__ import annotations

from .forms import AnswerForm, CallsForm, ChoiceForm, GrammarForm, JsonForm, RegexForm
from .text_messages import (
    CompileTemplates,
    Constrain,
    Decode,
    Encode,
    EncodeTexts,
    ExplainMiss,
    InspectWeights,
    ReadModel,
    RenderChat,
    RenderTurn,
    ToText,
)

# Seconds of processor time.
READ_S = 20.0  # for the files of a model; a tokenizer of 262,000 tokens takes 3 s
REQUEST_S = 3.0  # a chat of 1,000 messages takes 0.1 s
EACH_MEGABYTE_S = 6.0  # tokenising takes 0.7 s
# Time on the clock for each second of processor time, because a process may wait for a disk or a processor.
PATIENCE = 4.0

# A bound, because the front holds answers whole. The tokens of a text of 16 MB, one for each byte, have so many bytes;
# the tables of the largest tokenizers have a tenth.
ANSWER_LIMIT_BYTES = 80_000_000


def size_bytes(message: ToText) -> int:
    """The size of the request's content, roughly."""
    match message:
        case ReadModel() | InspectWeights() | CompileTemplates():
            return 0
        case Encode():
            return len(message.text)
        case EncodeTexts():
            return sum(map(len, message.texts)) + len(message.before or "") * len(message.texts)
        case Decode():
            return sum(map(len, message.runs))
        case RenderChat():
            return len(message.chat)
        case RenderTurn():
            return 2 * len(message.chat) + len(message.answer)
        case ExplainMiss():
            return len(message.given) + len(message.tokens)
        case Constrain():
            return form_bytes(message.form)


def form_bytes(form: AnswerForm) -> int:
    """The size of a form, roughly."""
    match form:
        case JsonForm():
            return len(form.schema)
        case RegexForm():
            return len(form.pattern)
        case ChoiceForm():
            return sum(map(len, form.choices))
        case GrammarForm():
            return len(form.grammar)
        case CallsForm():
            return sum(len(tool.schema or b"") for tool in form.tools) + (
                form_bytes(form.instead) if form.instead else 0
            )


def processor_bound_s(message: ToText) -> float:
    """Seconds of processor time that ``message`` may take once its model is read."""
    return REQUEST_S + EACH_MEGABYTE_S * size_bytes(message) / 1e6


def clock_bound_s(message: ToText) -> float:
    """Seconds on the clock after which the process of ``message`` is killed, even if it does not compute."""
    return PATIENCE * (READ_S + processor_bound_s(message))
