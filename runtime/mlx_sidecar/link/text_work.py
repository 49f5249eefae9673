"""How long what is asked of a text process may take: both ends of its link keep to it."""

from __future__ import annotations

from .text_messages import CompileTemplates, Decode, Encode, ExplainMiss, InspectWeights, ReadModel, RenderChat, ToText

# Processor seconds.
READ_S = 20.0  # for the files of a model; a tokenizer of 262,000 tokens takes 3
REQUEST_S = 3.0  # a chat of a thousand messages takes 0.1
EACH_MEGABYTE_S = 6.0  # tokenising takes 0.7
# A process may also wait, for a disk or for a processor: this many times as long, on the clock.
PATIENCE = 4.0

# An answer is held whole by the front, which may not grow with what a model's files make of a text. The tokens of a
# text of 16 MB, of one byte each, have so many bytes; the tables of the largest tokenizers a tenth.
ANSWER_LIMIT_BYTES = 80_000_000


def size_bytes(message: ToText) -> int:
    """Of what was given, roughly."""
    match message:
        case ReadModel() | InspectWeights() | CompileTemplates():
            return 0
        case Encode():
            return len(message.text)
        case Decode():
            return sum(map(len, message.runs))
        case RenderChat():
            return len(message.chat)
        case ExplainMiss():
            return len(message.given) + len(message.tokens)


def processor_bound_s(message: ToText) -> float:
    """Seconds of processor time after which ``message`` is taken for one that does not end, its model being read."""
    return REQUEST_S + EACH_MEGABYTE_S * size_bytes(message) / 1e6


def clock_bound_s(message: ToText) -> float:
    """The same on the clock, by which a process is ended that neither answers nor computes."""
    return PATIENCE * (READ_S + processor_bound_s(message))
