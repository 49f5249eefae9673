"""Answers the front's questions about texts, one after the other: what a text process does."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from mlx_sidecar_protocol.errors import InternalError, ModelUnsupported, RpcError

from ..link.codec import encode
from ..link.faults import fault_of
from ..link.text_messages import (
    CompileTemplates,
    Decode,
    Decoded,
    Encode,
    Encoded,
    Explained,
    ExplainMiss,
    Inspected,
    InspectWeights,
    ModelFolder,
    ModelRead,
    ReadModel,
    RenderChat,
    RenderedChat,
    TemplatesCompiled,
    TextRefused,
    TextReply,
    TextWarning,
    ToText,
)
from ..link.text_work import ANSWER_LIMIT_BYTES, READ_S, processor_bound_s
from ..link.token_table import packed, unpacked
from .tokenizer import TextModel

MODELS = 8  # kept; a tokenizer of a 128k vocabulary takes tens of megabytes and a third of a second to read

log = logging.getLogger(__name__)


class TextServer:
    """Holds nothing but what can be read again.

    ``allow`` is told how many seconds of processor time may be used from now on. ``trust_remote_code``: run the code
    that tokenizers bring.
    """

    def __init__(self, allow: Callable[[float], None], *, trust_remote_code: bool = False) -> None:
        self._allow = allow
        self._trust_remote_code = trust_remote_code
        self._models: OrderedDict[ModelFolder, TextModel] = OrderedDict()

    def answer(self, message: ToText) -> TextReply | TextRefused:
        """What is asked, or why it cannot be done. Nothing that a model's files make libraries raise gets further."""
        try:
            return self._answer(message)
        except RpcError as error:
            return TextRefused(message.op, fault_of(error))
        # A panic of the tokenizers library is a BaseException, and code of a model may try to leave.
        except BaseException as failed:
            self._models.pop(message.folder, None)  # what was in the middle of something is not used again
            if isinstance(failed, MemoryError) and self._models:  # other models hold it: once more, alone
                self._models.clear()
                return self.answer(message)
            told = _told(failed, message.folder.name)
            if isinstance(told, InternalError):
                log.exception("%s: %s failed", message.folder.name, type(message).__name__)
            return TextRefused(message.op, fault_of(told))

    def _answer(self, message: ToText) -> TextReply:
        match message:
            case ReadModel():
                return self._read(message)
            case InspectWeights():
                return self._inspect(message)
            case CompileTemplates():
                return self._compile(message)
            case Encode():
                return self._encode(message)
            case Decode():
                return self._decode(message)
            case RenderChat():
                return self._render(message)
            case ExplainMiss():
                return self._explain(message)

    def _model(self, message: ToText) -> TextModel:
        """The model that ``message`` is about; what follows has its own time."""
        folder = message.folder
        model = self._models.get(folder)
        if model is None:
            self._allow(READ_S)
            model = TextModel.load(Path(folder.path), folder.name, trust_remote_code=self._trust_remote_code)
            self._models[folder] = model
        self._models.move_to_end(folder)
        while len(self._models) > MODELS:
            self._models.popitem(last=False)
        self._allow(processor_bound_s(message))
        return model

    def _read(self, message: ReadModel) -> ModelRead:
        model = self._model(message)
        return ModelRead(
            message.op,
            vocabulary=model.vocabulary,
            context_length=model.context_length,
            eos_tokens=sorted(model.eos_tokens),
            has_chat_template=model.has_chat_template,
            table=model.table(),
        )

    def _inspect(self, message: InspectWeights) -> Inspected:
        from ..checkpoint.model_directory import inspect  # of what is there to load, and not of every text

        self._allow(READ_S)
        inspect(message.folder.name, message.folder.path, trust_remote_code=self._trust_remote_code)
        return Inspected(message.op)

    def _compile(self, message: CompileTemplates) -> TemplatesCompiled:
        self._model(message).compile_templates()
        return TemplatesCompiled(message.op)

    def _encode(self, message: Encode) -> Encoded:
        model = self._model(message)
        tokens = model.encode_prompt(message.text, message.add_special, message.escape)
        return Encoded(message.op, packed(tokens), model.pieces(tokens) if message.pieces else None)

    def _decode(self, message: Decode) -> Decoded:
        model = self._model(message)
        # Some decoders panic when there is nothing to decode.
        texts = [model.decode(unpacked(run), message.skip_special) if run else "" for run in message.runs]
        return Decoded(message.op, texts)

    def _render(self, message: RenderChat) -> RenderedChat:
        model = self._model(message)
        rendered, tokens = model.chat(**json.loads(message.chat))
        warnings = [TextWarning(each.kind, each.message) for each in rendered.warnings]
        return RenderedChat(message.op, packed(tokens), rendered.text if message.want_text else None, warnings)

    def _explain(self, message: ExplainMiss) -> Explained:
        from .cache_miss import Given, explain  # brings the contract's models, which nothing else here needs

        model, given = self._model(message), Given(**json.loads(message.given))
        told = explain(model, given, unpacked(message.tokens), message.nearest, message.uncacheable)
        return Explained(message.op, told.to_json_bytes())


def frame_of(answer: TextReply | TextRefused, name: str) -> bytes:
    """``answer``, ready to send; a refusal where the model called ``name`` says what the front cannot be told."""
    try:
        frame = encode(answer)
    except (OverflowError, UnicodeEncodeError) as wrong:  # a number of more than 64 bits, half of a character
        return _refusal(answer.op, name, f"what it says cannot be handed on: {str(wrong)[:200]}")
    if len(frame) > ANSWER_LIMIT_BYTES:
        return _refusal(answer.op, name, f"its answer has {len(frame)} bytes, the limit is {ANSWER_LIMIT_BYTES}")
    return frame


def _refusal(op: int, name: str, because: str) -> bytes:
    return encode(TextRefused(op, fault_of(ModelUnsupported(name, because))))


def _told(failed: BaseException, name: str) -> RpcError:
    """What a host hears of ``failed``. Only what is the files' doing is told, not what may be a bug of ours."""
    # The library raises bare Exception for all that can be wrong with a tokenizer, and nothing of ours does.
    if type(failed) is Exception or type(failed).__name__ == "PanicException":
        return ModelUnsupported(name, because=f"the tokenizers library failed: {str(failed)[:200]}")
    if isinstance(failed, MemoryError | RecursionError | SystemExit):
        return ModelUnsupported(name, because=f"its text cannot be processed: {type(failed).__name__}")
    return InternalError()
